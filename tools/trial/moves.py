"""Steps of a random graph that rearrange elements, or change their type."""

from __future__ import annotations

import numpy as np

from trial.sketch import Sketch, Unfit
from trial.steps import axes, scalar, small, step


@step("layout")
def layout(s: Sketch, x: str) -> str:
    shape, kind = s.shape(x), s.whole(0, 9)
    rank = len(shape)
    if kind == 0:
        return str(s.add("Reshape", x, s.constant(np.array((-1, shape[-1]), np.int64), "shape")))
    if kind == 1:
        return str(s.add("Transpose", x, perm=list(range(rank))[::-1]))
    if kind == 2:
        ends = [s.constant(np.array([v], np.int64), "at") for v in (0, max(1, shape[-1] - 1), -1)]
        return str(s.add("Slice", x, *ends))
    if kind == 3:
        return str(s.add("Concat", x, partner_like(s, x), axis=rank - 1))
    if kind == 4:
        halves = s.add("Split", x, outputs=2, axis=rank - 1, num_outputs=2)
        return str(halves[s.whole(0, 1)])
    if kind == 5:
        ids = s.constant(np.arange(shape[0])[::-1].copy(), "ids")
        return str(s.add("Gather", x, ids, axis=0))
    if kind == 6:
        return str(s.add("Unsqueeze", x, axes(s, 0)) if rank < 3 else s.add("Flatten", x))
    if kind == 7:
        pads = [0] * rank + [0] * (rank - 1) + [1]
        return str(s.add("Pad", x, s.constant(np.array(pads), "pads"), scalar(s, small(s), hidden=False)))
    if kind == 8 and rank >= 2:
        return str(s.add("Trilu", x, upper=s.whole(0, 1)))
    return str(s.add("Tile", x, s.constant(np.array([1] * (rank - 1) + [2]), "repeats")))


def partner_like(s: Sketch, x: str) -> str:
    """A weight or an input of the same shape."""
    array = s.reals(s.shape(x), min(float(np.abs(s.values[x]).max(initial=1e-3)), 1e6))
    return s.constant(array) if s.chance(50) else s.given(array)


@step("cast")
def cast(s: Sketch, x: str) -> str:
    to = s.among((6, 7, 10, 11, 9, 16))  # int32, int64, half, double, bool, bfloat16
    if to in (6, 7) and np.abs(s.values[x]).max() > 2**30:
        raise Unfit("beyond integers")
    if to in (10, 16) and np.abs(s.values[x]).max() > 6e4:
        raise Unfit("beyond halves")
    return str(s.add("Cast", s.add("Cast", x, to=to), to=1))


@step("integers")
def integers(s: Sketch, x: str) -> str:
    if np.abs(s.values[x]).max() > 1e6:
        raise Unfit("beyond integers")
    n = s.add("Cast", x, to=7)
    m = s.constant(np.array(s.among((1, 2, 3, 7, 100, 65536)), np.int64), "n")
    n = s.add(s.among(("Max", "Min", "Max", "Min", "Add")), n, m)
    return str(s.add("Cast", n, to=1))
