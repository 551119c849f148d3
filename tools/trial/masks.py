"""Steps of a random graph that mask positions: every kind of filler, on the way to every kind of reader."""

from __future__ import annotations

import numpy as np

from trial.moves import partner_like
from trial.sketch import Sketch, Unfit
from trial.steps import axes, rank_at_least, scalar, step

LOWEST = float(np.finfo(np.float32).min)
LOWS = (-np.inf, LOWEST, -1e9, -1e4, -65504.0, -1e30, -3.4e4, -1e8, -1e6, -500.0)


def keep(s: Sketch, x: str) -> str:
    """Booleans of some rank that broadcast to x, True somewhere in every row: public or secret."""
    shape = s.shape(x)
    part = s.among((shape, shape, shape[-1:], (1,) * (len(shape) - 1) + shape[-1:]))
    mask = s.numbers(part).random(part) < 0.6
    mask[..., -1 if s.chance(95) else 0] = True  # normally every row keeps an element
    if s.chance(20):
        return s.public(mask)
    return s.given(mask, s.among(("keep", "keep", "secretly")))


def additive(s: Sketch, x: str, low: float) -> str:
    """Numbers to add: zero, or far below."""
    how = s.whole(0, 4)
    k = keep(s, x)
    if how == 0:
        return str(s.add("Where", k, s.public(np.float32(0)), s.public(np.float32(low))))
    if how == 1 and np.isfinite(low):
        one = s.public(np.float32(1))
        away = s.add("Sub", one, s.add("Cast", k, to=1))
        return str(s.add("Mul", away, s.public(np.float32(low))))
    if how == 2:
        return str(s.add("Where", s.add("Not", k), s.public(np.float32(low)), s.public(np.float32(0))))
    array = np.where(s.values[k], 0, low).astype(np.float32)
    if how == 3:
        return s.constant(array)
    return s.given(array, s.among(("keep", "mask")))


def moved(s: Sketch, x: str) -> tuple[str, int]:
    """The same numbers rearranged, and the new place of their last axis."""
    shape = s.shape(x)
    rank, kind = len(shape), s.whole(0, 6)
    if kind == 0:
        return str(s.add("Reshape", x, s.constant(np.array((1, -1, shape[-1]), np.int64), "shape"))), 2
    if kind == 1:
        return str(s.add("Transpose", x, perm=list(range(rank))[::-1])), 0
    if kind == 2:
        return str(s.add("Concat", x, partner_like_near(s, x), axis=rank - 1)), rank - 1
    if kind == 3:
        return str(s.add("Mul", x, scalar(s, s.among((0.125, 0.5, 2.0)), hidden=False))), rank - 1
    if kind == 4:
        return str(s.add("Cast", s.add("Cast", x, to=11), to=1)), rank - 1
    if kind == 5:
        return str(s.add("Expand", x, s.constant(np.array((2, *shape)), "shape"))), rank
    return x, rank - 1


def partner_like_near(s: Sketch, x: str) -> str:
    array = s.reals(s.shape(x), 1.0)
    return s.constant(array) if s.chance(50) else s.given(array)


@step("filled, then softmax")
def filled(s: Sketch, x: str) -> str:
    low = s.among(LOWS)
    if np.abs(s.values[x]).max() > abs(low) / 8:
        raise Unfit("a filler that is no filler")
    k = keep(s, x)
    far = s.public(np.float32(low))
    if s.chance(20):
        y = s.add("Where", s.add("Not", k), far, x)
    else:
        y = s.add("Where", k, x, far)
    for _ in range(s.whole(0, 1)):
        y = s.add("Add", y, partner_like_near(s, y))
    return reader(s, y)


@step("masked, then softmax")
def masked(s: Sketch, x: str) -> str:
    for _ in range(s.among((1, 1, 2, 3))):
        low = s.among(LOWS)
        x = s.add("Add", x, additive(s, x, low))
    return reader(s, x)


def reader(s: Sketch, x: str) -> str:
    """A step that looks for the largest of a row."""
    x, axis = moved(s, x)
    kind = s.whole(0, 9)
    last = s.constant(np.array([axis], np.int64), "axes")
    if kind < 5:
        return str(s.add("Softmax", x, axis=axis))
    if kind == 5:
        t = s.add("ReduceMax", x, last)
        e = s.add("Exp", s.add("Sub", x, t))
        return str(s.add("Div", e, s.add("ReduceSum", e, last)))
    if kind == 6:
        return str(s.add("ReduceMax", x, last))
    if kind == 7:
        return str(s.add("Cast", s.add("ArgMax", x, axis=axis, keepdims=1), to=1))
    if kind == 8:
        y = s.add("LogSoftmax", x, axis=axis)
        return str(s.add("ReduceMax", y, last))
    values, places = s.add("TopK", x, axes(s, 1), outputs=2, axis=axis)
    return str(values if s.chance(50) else s.add("Cast", places, to=1))


@step("sentinel")
def sentinel(s: Sketch, x: str) -> str:
    """A number far above the others, where the smallest is sought."""
    high = -s.among(LOWS)
    if np.abs(s.values[x]).max() > high / 8:
        raise Unfit("a sentinel that is none")
    y = s.add("Where", keep(s, x), x, s.public(np.float32(high)))
    rank = len(s.shape(x))
    kind = s.whole(0, 3)
    if kind == 0:
        return str(s.add("ReduceMin", y, axes(s, -1)))
    if kind == 1:
        return str(s.add("Cast", s.add("ArgMin", y, axis=rank - 1), to=1))
    if kind == 2:
        return str(s.add("Softmax", s.add("Neg", y), axis=-1))
    values, places = s.add("TopK", y, axes(s, 1), outputs=2, axis=rank - 1, largest=0)
    return str(values if s.chance(50) else s.add("Cast", places, to=1))


@step("mean of what is kept")
def pooled(s: Sketch, x: str) -> str:
    rank_at_least(s, x, 2)
    k = s.add("Cast", keep(s, x), to=1)
    total = s.add("ReduceSum", s.add("Mul", x, k), axes(s, -1))
    if s.shape(k) != s.shape(x):
        k = s.add("Expand", k, s.constant(np.array(s.shape(x)), "shape"))
    count = s.add("Clip", s.add("ReduceSum", k, axes(s, -1)), scalar(s, 1e-9, hidden=False))
    return str(s.add("Div", total, count))


@step("dropped and filled again")
def guarded(s: Sketch, x: str) -> str:
    """Scores of rows that may be masked entirely, guarded as PyTorch does."""
    low = s.among((-np.inf, LOWEST, -1e9))
    k = keep(s, x)
    y = s.add("Where", k, x, s.public(np.float32(low)))
    p = s.add("Softmax", y, axis=-1)
    return (
        str(s.add("Where", k, p, s.public(np.float32(0))))
        if s.chance(50)
        else str(s.add("Mul", p, s.add("Cast", k, to=1)))
    )


@step("other filler")
def other(s: Sketch, x: str) -> str:
    """A mask before a step that reads single elements."""
    low = s.among((*LOWS, 0.0, -1.0)) * s.among((1, -1))
    y = s.add("Where", keep(s, x), x, s.public(np.float32(low)))
    op = s.among(("Relu", "Sigmoid", "Tanh", "Exp", "Clip", "Max", "Min", "Softplus", "Gelu"))
    if op == "Clip":
        ends = sorted((s.magnitude(1e-2, 1e3), -s.magnitude(1e-2, 1e3)))
        return str(s.add(op, y, *(scalar(s, v, hidden=False) for v in ends)))
    return str(s.add(op, y, partner_like(s, y)) if op in ("Max", "Min") else s.add(op, y))
