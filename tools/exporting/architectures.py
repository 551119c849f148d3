"""Which architecture: a catalogue name, a folder or a repository becomes a configuration, full or tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

from exporting import ExportError

CATALOGUE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())
NOT_REACHED = (
    "--random-init builds the architecture with random weights ({names}); "
    "--model also takes a local folder with config.json and weights, or a .gguf file"
)


def is_folder(name: str) -> bool:
    return (Path(name) / "config.json").is_file()


def hub_name(name: str) -> str:
    """The repository of a catalogue name; any other name or folder is returned unchanged."""
    return str(CATALOGUE["hub_names"].get(name, name))


def _catalogued(name: str) -> str | None:
    """The catalogue name of a model that is given by this name or by its repository."""
    if name in CATALOGUE["named"]:
        return name
    return next((known for known, repository in CATALOGUE["hub_names"].items() if repository == name), None)


def random_config(name: str, tiny: bool, layers: int | None = None) -> Any:
    """The configuration of a catalogue name or of its repository, without a look at the hub; else that of a
    folder or repository. `tiny` shrinks it; `layers` is how many of them it then has, if given."""
    known = _catalogued(name)
    if known is not None and not is_folder(name):
        fields = dict(CATALOGUE["named"][known])
        config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise unreachable(name, error) from error
    if tiny:
        config = type(config).from_dict(shrunk(config.to_dict()))
    if layers is not None:
        cut(config, layers)
    return config


def cut(config: Any, layers: int) -> None:
    """Keep the first layers alone. Raises ExportError for a configuration without such a number."""
    if getattr(config, "num_hidden_layers", None) is None or config.is_encoder_decoder:
        raise ExportError(
            f"the configuration of {config.model_type} has no single number of layers", "omit --layers"
        )
    if not 1 <= layers <= config.num_hidden_layers:
        raise ExportError(f"--layers {layers} of {config.num_hidden_layers}", "it cuts the model short")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def shrunk(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration, and of those inside it, with the tiny sizes of their model types."""
    kind = fields.get("model_type")
    small = dict(fields)
    for name, value in fields.items():
        if isinstance(value, dict) and "model_type" in value:
            small[name] = shrunk(value)
    table = CATALOGUE["tiny"]
    sizes = table.get(kind, table["default"])
    if "num_labels" in sizes:
        small = {name: value for name, value in small.items() if name not in ("id2label", "label2id")}
    return small | sizes


def unreachable(name: str, error: Exception) -> ExportError:
    """The error for a name that cannot be loaded."""
    names = ", ".join(CATALOGUE["named"])
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ExportError(f"cannot load {name!r}: {reason}", NOT_REACHED.format(names=names))
