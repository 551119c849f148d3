"""One input of a model, as a client has to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

LARGEST_INPUT = 2.0**42
"""Secret reals must not exceed this: what words of 64 bits hold with 18 fraction bits, and room for a sum."""
LARGEST_KEPT = 2.0**20
"""Reals that stay at the servers are no larger, where nothing is proved of them."""


@dataclass(frozen=True)
class InputSpec:
    """One input of the model. `shape` holds ints and symbols; `vocabulary`: rows of its table of ids.

    default: what it holds where a feed leaves it out; None where it may not. sources: closed outputs; where
    there are some, what the servers kept of them fills it, and nothing else does but an array of nothing.
    declared: what the owner says its numbers lie between, the ends included. settled: it is known what the
    kept values of its own kind lie within, and it takes no others.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    secret: bool
    vocabulary: int | None = None
    default: np.ndarray | None = field(default=None, compare=False)
    sources: tuple[str, ...] = ()
    declared: tuple[float, ...] | None = None
    settled: bool = False
