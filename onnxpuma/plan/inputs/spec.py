"""One input of a model, as a client has to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

LARGEST_INPUT = 2.0**42
"""The largest secret real: words of 64 bits with 18 fraction bits hold it, with room for a sum."""
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
    # The value where a feed leaves the input out; None where it may not.
    default: np.ndarray | None = field(default=None, compare=False)
    # Closed outputs. Where there are any, the input takes only values that servers kept of them, or an empty
    # array.
    sources: tuple[str, ...] = ()
    # The ends of the range that the owner declared, both included.
    declared: tuple[float, ...] | None = None
    # The bound of kept values of its own kind is known, so it takes no others.
    settled: bool = False
