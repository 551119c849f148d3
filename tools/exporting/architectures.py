"""Which model: a name, a local folder or a hub repository becomes a PyTorch model, trained or random."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from exporting import ExportError
from exporting.tasks import Task

CATALOGUE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())

COMPANIONS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
)
NOT_REACHED = (
    "--random-init builds the architecture with random weights ({names}); "
    "--model also takes a local folder with config.json and weights"
)


def is_folder(name: str) -> bool:
    return (Path(name) / "config.json").is_file()


def hub_name(name: str) -> str:
    """The repository that a catalogue name stands for; any other name or folder stands for itself."""
    return str(CATALOGUE["hub_names"].get(name, name))


def random_config(name: str, tiny: bool) -> Any:
    """The configuration of a catalogue name, or that of a folder or repository; `tiny` shrinks it."""
    if name in CATALOGUE["named"] and not is_folder(name):
        fields = dict(CATALOGUE["named"][name])
        config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise _unreachable(name, error) from error
    if tiny:
        sizes = CATALOGUE["tiny"].get(config.model_type, CATALOGUE["tiny"]["default"])
        for field, value in sizes.items():
            setattr(config, field, value)
    return config


def load(name: str, task: Task, *, random_init: bool, tiny: bool, attention: str, seed: int) -> Any:
    """A model in eval mode.

    Random weights come from Transformers' own initialisation (normal, standard deviation 0.02) under `seed`.
    Raises ExportError when the name leads nowhere or the architecture has no class for the task.
    """
    auto = getattr(transformers, task.auto_class)
    try:
        if random_init or tiny:
            torch.manual_seed(seed)
            model = auto.from_config(random_config(name, tiny), attn_implementation=attention)
        else:
            model = auto.from_pretrained(hub_name(name), attn_implementation=attention, dtype=torch.float32)
    except OSError as error:
        raise _unreachable(name, error) from error
    except ValueError as error:
        hint = f"choose a --task that this architecture has a {task.auto_class} for"
        raise ExportError(str(error).splitlines()[0], hint) from error
    return model.eval()


def save_companions(model: Any, name: str, task: Task, folder: Path, *, drawn: bool) -> list[str]:
    """Write config.json, and the tokenizer or image processor where the source has one; returns the names.

    A model whose weights were `drawn` at random takes them from a local folder only, never from a hub.
    """
    before = set(folder.iterdir())
    model.config.save_pretrained(folder)
    # Asked of a folder without such files, Transformers would make up an empty tokenizer.
    if any((Path(name) / file).is_file() for file in COMPANIONS) if is_folder(name) else not drawn:
        _copy_companion(name, task, folder)
    return sorted(path.name for path in set(folder.iterdir()) - before | {folder / "config.json"})


def _copy_companion(name: str, task: Task, folder: Path) -> None:
    auto = transformers.AutoTokenizer if task.modality == "text" else transformers.AutoImageProcessor
    with contextlib.suppress(OSError, ValueError, KeyError, ImportError):  # a bare checkpoint has none
        auto.from_pretrained(hub_name(name)).save_pretrained(folder)


def _unreachable(name: str, error: Exception) -> ExportError:
    names = ", ".join(CATALOGUE["named"])
    return ExportError(f"cannot load {name!r}: {str(error).splitlines()[0]}", NOT_REACHED.format(names=names))
