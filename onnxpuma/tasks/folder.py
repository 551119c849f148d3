"""A model's folder at the client: configuration, tokenizer, feature extractor and image processor.

These are Hugging Face's, and run on the client's machine before anything is shared. None needs PyTorch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from onnxpuma.errors import ConfigError

INSTALL = "pip install 'onnxpuma[tasks]'"

# The names under which architectures give their number of positions; the first one present counts.
_POSITIONS = ("max_target_positions", "max_position_embeddings", "n_positions", "n_ctx")
_SOURCE_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
_OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "xmod")


class ModelFolder:
    """The files beside the ONNX files, read on first use.

    tokenizer, feature_extractor, image_processor: replace those in the folder; a path names another folder to
    read one from. Raises ConfigError if config.json is missing or damaged, if one of the three is needed and
    cannot be read, and if Transformers is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: Any = None,
        feature_extractor: Any = None,
        image_processor: Any = None,
    ) -> None:
        self.path = Path(path)
        self._given = {
            "AutoTokenizer": tokenizer,
            "AutoFeatureExtractor": feature_extractor,
            "AutoImageProcessor": image_processor,
        }
        self.config = self._json("config.json", needed=True)
        self.generation = self._json("generation_config.json")

    def __repr__(self) -> str:
        return f"ModelFolder({str(self.path)!r})"

    @property
    def kind(self) -> str:
        """The `model_type` of Transformers, or ""."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def tokenizer(self) -> Any:
        return self._load("AutoTokenizer", "tokenizer")

    @cached_property
    def feature_extractor(self) -> Any:
        return self._load("AutoFeatureExtractor", "feature extractor")

    @cached_property
    def image_processor(self) -> Any:
        return self._load("AutoImageProcessor", "image processor", backend="pil")

    def value(self, *names: str, parts: tuple[str, ...] = ("", "decoder", "text_config")) -> Any:
        """The first of these settings that is present in generation_config.json, else in config.json or its
        parts; None if none is."""
        tables = [self.generation, *(self.config.get(p) if p else self.config for p in parts)]
        for table in tables:
            for name in names:
                if isinstance(table, dict) and table.get(name) is not None:
                    return table[name]
        return None

    @property
    def positions(self) -> int | None:
        """How many tokens the decoder, or a model without one, can count; None for no limit."""
        most = self._number(_POSITIONS, ("decoder", "text_config", ""))
        offset = int(self.config.get("pad_token_id") or 0) + 1 if self.kind in _OFFSET else 0
        return None if most is None else most - offset

    @property
    def source_positions(self) -> int | None:
        """How many tokens the encoder of an encoder-decoder can count; None for no limit."""
        return self._number(_SOURCE_POSITIONS, ("encoder", ""))

    def _number(self, names: tuple[str, ...], parts: tuple[str, ...]) -> int | None:
        if self.kind in ("t5", "mt5", "umt5", "longt5"):
            return None  # `n_positions` is its length in training; relative positions have no limit
        for part in parts:
            table = self.config.get(part) if part else self.config
            for name in names:
                if isinstance(table, dict) and isinstance(table.get(name), int):
                    return int(table[name])
        return None

    def _json(self, name: str, needed: bool = False) -> dict[str, Any]:
        path = self.path / name
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if not needed:
                return {}
            raise ConfigError(
                f"there is no {name} in {self.path}",
                "name the folder that tools/export.py wrote, with the tokenizer and the configuration",
            ) from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {path}: {error}", "copy it again from the model") from error
        if not isinstance(table, dict):
            raise ConfigError(f"{path} is not a JSON object", "copy it again from the model")
        return table

    def _load(self, auto_class: str, what: str, **options: Any) -> Any:
        given = self._given[auto_class]
        if given is not None and not isinstance(given, (str, Path)):
            return given
        folder = self.path if given is None else Path(given)
        read: Callable[..., Any] = getattr(transformers(), auto_class).from_pretrained
        try:
            return read(str(folder), local_files_only=True, **options)
        except ImportError as error:
            raise ConfigError(
                f"the {what} needs another library: {_first_line(error)}", f"install it: {INSTALL}"
            ) from error
        except Exception as error:  # Transformers raises errors of many types about a folder
            raise ConfigError(
                f"there is no {what} in {folder} that Transformers can read: {_first_line(error)}",
                "copy the model's tokenizer and preprocessor files there, or name another folder",
            ) from error


def transformers() -> ModuleType:
    """The library, imported without its warning that PyTorch is missing: nothing here needs PyTorch."""
    quiet = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(quiet)
    os.environ[quiet] = "1"
    try:
        import transformers as library
    except ImportError as error:
        raise ConfigError(
            "tokenizers and feature extractors need the library transformers, which is not installed",
            f"install the libraries for tasks: {INSTALL}",
        ) from error
    finally:
        if before is None:
            del os.environ[quiet]
        else:
            os.environ[quiet] = before
    return library


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
