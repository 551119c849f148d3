"""Random graphs: one to eight steps on a few numbers of any size."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import strategies as st

import trial.masks
import trial.moves
import trial.patterns
import trial.quantised  # noqa: F401  (these register their steps)
from trial.sketch import Sketch, Unfit
from trial.steps import STEPS

MOST_STEPS = 8
_TRIES = 4
_NAMES = sorted(STEPS)


@dataclass(frozen=True)
class Drawn:
    """A model, its feed, and the names of its steps."""

    model: onnx.ModelProto
    feed: dict[str, np.ndarray]
    steps: tuple[str, ...]

    def __repr__(self) -> str:
        return " > ".join(self.steps)


def graphs(most: int = MOST_STEPS) -> st.SearchStrategy[Drawn]:
    """Graphs with at least one step; inputs from 1e-6 to 1e7.

    Each is drawn from eight bytes: a graph that differs from another by a few changes would reveal little
    new.
    """
    return st.binary(min_size=8, max_size=8).map(lambda start: drawn(start, most))


def drawn(start: bytes, most: int = MOST_STEPS) -> Drawn:
    """The graph that these bytes determine."""
    s = Sketch(random.Random(start))
    rank = s.among((2, 2, 3, 1))
    shape = (*(s.whole(1, 5) for _ in range(rank - 1)), s.whole(2, 8))
    scale = s.among((1.0, 1.0, s.magnitude(1e-6, 1e7), s.magnitude(1e-2, 1e4)))
    x = s.given(s.reals(shape, scale))
    for _ in range(s.whole(1, most)):
        x = _next(s, x)
    if not s.nodes:
        x = s.add("Add", x, x)
    s.outputs = [x]
    return Drawn(s.model(), s.feed, tuple(s.steps))


def _next(s: Sketch, x: str) -> str:
    for _ in range(_TRIES):
        name = s.among(_NAMES)
        kept = len(s.nodes), dict(s.constants), dict(s.feed), dict(s.values), len(s.steps)
        try:
            s.steps.append(name)
            y = STEPS[name](s, x)
            if s.fits(y) and y != x and 1 <= len(s.shape(y)) <= 4:
                return y
        except Unfit:
            pass
        del s.nodes[kept[0] :]
        s.constants, s.feed, s.values = kept[1:4]
        del s.steps[kept[4] :]
    return x
