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
    """`module` maps the tensors of `example`, in the order of `axes`, to a tuple in the order of `outputs`.

    `axes` gives every input its dynamic axes; axes of one name have one extent. `also` are extents worth
    checking besides the usual ones: those that occur when the file is used.
    """

    file: str
    module: torch.nn.Module
    axes: Mapping[str, Axes]
    outputs: tuple[str, ...]
    example: Callable[[Sizes], tuple[torch.Tensor, ...]]
    also: tuple[Sizes, ...] = ()
