"""Operators that move, choose or sum up elements: which places of a result follow from which."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.ops.reduce import axes_of
from onnxpuma.ops.registry import Call
from onnxpuma.plan.together.ends import Ends, Given, Rule, aligned, shape


def _laid_out(call: Call, axis: int, given: Given) -> Ends | None:
    """The same elements in another shape: as many in front of the axis, before and after."""
    before, after = shape(call, 0), call.outputs[0].shape
    ahead = math.prod(after[:axis])
    places = [a for a in range(len(before)) if math.prod(before[:a]) == ahead]
    if not places:
        return None
    # Axes of one element leave several places: where the values lie, else the axis itself, else the widest.
    lies = given.lies[0]
    if lies in places:
        place = lies
    elif axis in places and before[axis] == after[axis]:
        place = axis
    else:
        place = max(places, key=lambda a: before[a])
    return Ends({0: place}, unread=tuple(range(1, len(call.inputs))))


def _gather(call: Call, axis: int, given: Given) -> Ends | None:
    at, rank = call.axis, len(shape(call, 1))
    if given.same[0] and at <= axis < at + rank:
        return Ends({1: axis - at})
    if not given.same[1] or at <= axis < at + rank:
        return None
    return Ends({0: axis if axis < at else axis - rank + 1})


def _chosen_axes(call: Call, slot: int) -> list[int] | None:
    """The axes that a public input lists; None where it is absent."""
    listed = call.public(slot)
    rank = len(shape(call, 0))
    return None if listed is None else [int(a) % rank for a in np.atleast_1d(listed)]


def _slice(call: Call, axis: int, given: Given) -> Ends | None:
    axes = _chosen_axes(call, 3)
    cut = range(np.atleast_1d(np.asarray(call.public(1))).size) if axes is None else axes
    return None if axis in cut else Ends({0: axis})


def _apart(call: Call, axis: int, given: Given) -> Ends | None:
    """Works along the attribute `axis` alone."""
    return None if call.axis == axis else Ends({0: axis})


def _expand(call: Call, axis: int, given: Given) -> Ends | None:
    found = aligned(call, axis, given, (0,), call.outputs[0].shape)
    return None if found is None else Ends(found.axes, unread=(1,))


def _reduced(call: Call, axis: int, given: Given) -> Ends | None:
    axes = axes_of(call)
    return _left_over(call, axis, axes) if axes else None


def _largest(call: Call, axis: int, given: Given) -> Ends | None:
    return _left_over(call, axis, [call.axis])


def _left_over(call: Call, axis: int, axes: Sequence[int]) -> Ends | None:
    """The result has the axes that are not reduced, and the others with one element or not at all."""
    rank = len(shape(call, 0))
    if call.attribute("keepdims"):
        return None if axis in axes else Ends({0: axis})
    return Ends({0: [a for a in range(rank) if a not in axes][axis]})


def _cumulated(call: Call, axis: int, given: Given) -> Ends | None:
    return None if axis in (_chosen_axes(call, 1) or ()) else Ends({0: axis})


def _entries(call: Call, axis: int, given: Given) -> Ends | None:
    """The first axis has independent entries: images, or sequences. The places of the largest elements, a
    second output, count through all of them."""
    return Ends({0: 0}) if axis == 0 and len(call.outputs) == 1 else None


def _padded(call: Call, axis: int, given: Given) -> Ends | None:
    rank, widths = len(shape(call, 0)), np.asarray(call.public(1)).reshape(-1)
    listed = _chosen_axes(call, 3)
    axes = list(range(rank)) if listed is None else listed
    if axis in axes:
        place = axes.index(axis)
        if widths[place] or widths[place + len(axes)]:
            return None
    return Ends({0: axis})


LAYOUTS: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _laid_out),
    "Gather": _gather,
    "Slice": _slice,
    "Split": _apart,
    "Expand": _expand,
    **dict.fromkeys(
        (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
            "ReduceProd", "ReduceSum", "ReduceSumSquare",
        ),
        _reduced,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), _largest),
    "CumSum": _cumulated,
    "Pad": _padded,
    **dict.fromkeys(
        (
            "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool",
            "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LpPool", "MaxPool",
        ),
        _entries,
    ),
}  # fmt: skip
