"""One file of an export: a module of positional tensors, the names of its inputs and outputs, examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from exporting.tracing import Axes


@dataclass(frozen=True)
class Sizes:
    """Extents of one example: rows, new tokens, cached tokens, and tokens that the encoder saw."""

    batch: int
    sequence: int
    past: int
    encoded: int
    seed: int


@dataclass(frozen=True)
class Part:
    """One ONNX file to be made from a module."""

    file: str
    module: torch.nn.Module  # maps the tensors of `example`, in the order of `axes`, to a tuple
    axes: Mapping[str, Axes]  # input -> its dynamic axes; axes of one name have one extent
    outputs: tuple[str, ...]
    example: Callable[[Sizes], tuple[torch.Tensor, ...]]
    also: tuple[Sizes, ...] = ()  # further extents worth checking: those that occur in use
