"""The trained models that ship with the package: their files and their cards."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit

from onnxpuma.errors import BuildError, ConfigError

CARD = "model.toml"


@dataclass(frozen=True)
class ShippedModel:
    """One folder of models/: the model, its card, and examples that it was not trained on."""

    name: str
    folder: Path
    card: dict[str, Any] = field(repr=False)

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def input_name(self) -> str:
        return str(self.card["input"]["name"])

    @property
    def output_name(self) -> str:
        return str(self.card["output"]["name"])

    @cached_property
    def _heldout(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "heldout.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    @property
    def inputs(self) -> np.ndarray:
        """The examples as a client would feed them: (examples, ...)."""
        return self._heldout["inputs"]

    @property
    def labels(self) -> np.ndarray:
        """The true labels of the examples."""
        return self._heldout["labels"]


def shipped_models() -> dict[str, ShippedModel]:
    """All shipped models by name, from an installed package or a checkout.

    Raises BuildError when the installation lacks them.
    """
    root = Path(str(files("onnxpuma"))) / "models"
    found = {}
    for card in sorted(root.glob(f"*/{CARD}")):
        read = tomlkit.parse(card.read_text(encoding="utf-8")).unwrap()
        found[card.parent.name] = ShippedModel(card.parent.name, card.parent, read)
    if not found:
        raise BuildError(f"there are no models in {root}", "reinstall onnxpuma")
    return found


def shipped_model(name: str) -> ShippedModel:
    """The model of this name; a ConfigError names those that exist."""
    models = shipped_models()
    if name not in models:
        raise ConfigError(f"no model called '{name}' ships with onnxpuma", f"choose from {', '.join(models)}")
    return models[name]
