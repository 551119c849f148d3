"""A model's inputs, outputs and metadata, described as by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# numpy's names of types that ONNX, and so onnxruntime, calls otherwise.
_TYPES = {"float32": "float", "float64": "double", "bool": "bool", "object": "string"}


@dataclass(frozen=True)
class NodeArg:
    """An input or output."""

    name: str
    shape: list[int | str | None]  # symbols for lengths that vary
    type: str


@dataclass(frozen=True)
class ModelMetadata:
    """What a shared model tells of itself."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


def node_arg(name: str, shape: Sequence[int | str | None], dtype: np.dtype[Any]) -> NodeArg:
    return NodeArg(name, list(shape), f"tensor({_TYPES.get(dtype.name, dtype.name)})")
