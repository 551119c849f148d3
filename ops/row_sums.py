"""Bounds of sums over axes, and of results computed from them."""

from __future__ import annotations

import math

from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.reduce import axes_of, count_of
from onnxpuma.ops.registry import Call
from onnxpuma.ops.sight import seen


def added(call: Call) -> Bound:
    """The bound of the sum over axes."""
    x, count = seen(call.given(0)), count_of(call)
    rank = len(call.given(0).shape)
    size = math.inf
    if axes_of(call) == (rank - 1,):
        size = x.length(count) * math.sqrt(count)
    return Bound(max(x.low * count, -size), min(x.high * count, size)) if count else Bound(0.0, 0.0)


def mean(call: Call) -> Bound:
    count = count_of(call)
    found, x = added(call).times(1.0 / max(count, 1)), seen(call.given(0))
    return Bound(max(found.low, x.low), min(found.high, x.high))


def squared(call: Call) -> Bound:
    x, count = seen(call.given(0)), count_of(call)
    most = x.size * x.size * count
    if axes_of(call) == (len(call.given(0).shape) - 1,):
        most = min(most, x.length(count) ** 2)
    return Bound(0.0, most)


def multiplied(call: Call) -> Bound:
    size, total = seen(call.given(0)).size, 1.0
    for _ in range(min(count_of(call), 4096)):
        total = max(total * size, size, 1.0) if total < 2.0**900 else math.inf
    return Bound(-total, total)


def running(call: Call) -> Bound:
    x, axis = seen(call.given(0)), call.public(1)
    if axis is None:
        return UNKNOWN
    count = call.given(0).shape[int(axis.reshape(-1)[0])]
    return Bound(min(x.low * count, 0.0), max(x.high * count, 0.0))
