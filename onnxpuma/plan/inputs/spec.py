"""One input of a model, as a client must feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxpuma.mpc.format import RESTING, Format


def largest_input(format: Format) -> float:
    """The largest secret number that a client may share in this format: its words leave room for a sum."""
    return format.largest / 4


LARGEST_INPUT = largest_input(RESTING)
LARGEST_KEPT = 2.0**20
"""The largest real that stays at the servers, where no smaller bound of it is proved."""


@dataclass(frozen=True)
class InputSpec:
    """One input of the model."""

    name: str
    dtype: np.dtype[Any]
    # Numbers and symbols.
    shape: tuple[int | str | None, ...]
    secret: bool
    # Of ids: the rows of the table that they index.
    vocabulary: int | None = None
    # The value if a feed leaves the input out; None if it must not.
    default: np.ndarray | None = field(default=None, compare=False)
    # The closed outputs that it continues, if any: then it takes only values that the servers kept of them,
    # or an empty array.
    sources: tuple[str, ...] = ()
    # The ends of the range that the owner declared, both included.
    declared: tuple[float, ...] | None = None
    # The bound of kept values of its own kind is known, so it takes no other kept values.
    settled: bool = False
