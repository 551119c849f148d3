"""Bounds of moved elements: intervals stay; lengths of rows stay if rows survive, whole or in blocks."""

from __future__ import annotations

import math

import numpy as np

from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.products import turned
from onnxpuma.ops.registry import Call
from onnxpuma.ops.sight import Bounding, last, words


def _reshaped(call: Call) -> Bound:
    x, before, after = words(call.given(0)), last(call.given(0)), last(call.outputs[0])
    if before == after:
        kept = call.given(0).shape[-2:] == call.outputs[0].shape[-2:]
        return x if kept else Bound(x.low, x.high, x.norm, x.blocks)
    if not before or not after:
        return x.only()
    if before % after == 0:
        return Bound(x.low, x.high, x.length(after), {b: v for b, v in x.blocks.items() if after % b == 0})
    if after % before == 0:
        times = math.sqrt(after // before)
        return Bound(x.low, x.high, x.length(before) * times, {**x.blocks, before: x.length(before)})
    return x.only()


def order_of(call: Call) -> list[int]:
    """For each axis of a Transpose's output the axis of its input."""
    return [int(a) for a in call.attribute("perm") or range(len(call.given(0).shape) - 1, -1, -1)]


def _transposed(call: Call) -> Bound:
    x, rank = words(call.given(0)), len(call.given(0).shape)
    order = order_of(call)
    if rank < 2 or order[-2:] == [rank - 2, rank - 1]:
        return x
    if order[-2:] == [rank - 1, rank - 2]:
        return turned(x)
    if order[-1] == rank - 1:
        return Bound(x.low, x.high, x.norm, x.blocks)
    if order[-2] == rank - 1:
        return Bound(x.low, x.high, math.inf, {}, {"column": x.length(last(call.given(0)))})
    if order[-1] == rank - 2 and "column" in x.matrix:
        return Bound(x.low, x.high, x.matrix["column"])
    return x.only()


def _part(call: Call) -> Bound:
    """Split, Slice, Gather and the like: a part of a row is no longer than the row."""
    x, rank = words(call.given(0)), len(call.given(0).shape)
    if call.node.op == "Slice":
        return _sliced(call, x)
    if call.node.op == "Gather":  # by public indices, or rows of a table by ids
        return Bound(x.low, x.high, x.norm, x.blocks) if call.axis != rank - 1 else x.only()
    if call.axis == rank - 1:
        edges = np.cumsum([0, *(o.shape[-1] for o in call.outputs)])
        blocks = {b: v for b, v in x.blocks.items() if not (edges % b).any()}
        return Bound(x.low, x.high, x.norm, blocks)
    return Bound(x.low, x.high, x.norm, x.blocks)


def _sliced(call: Call, x: Bound) -> Bound:
    rank = len(call.given(0).shape)
    axes, steps, starts = call.public(3), call.public(4), call.public(1)
    assert starts is not None
    for number, start in enumerate(np.atleast_1d(starts)):
        axis = number if axes is None else int(np.atleast_1d(axes)[number]) % rank
        step = 1 if steps is None else int(np.atleast_1d(steps)[number])
        if axis == rank - 1:
            if step != 1:
                return Bound(x.low, x.high, x.norm)
            place = int(start) + (call.given(0).shape[-1] if start < 0 else 0)
            kept = {b: v for b, v in x.blocks.items() if max(place, 0) % b == 0}
            return Bound(x.low, x.high, x.norm, kept)
    return Bound(x.low, x.high, x.norm, x.blocks)


def _stretched(call: Call) -> Bound:
    x, first = words(call.given(0)), call.given(0)
    if call.node.op == "Expand":
        return x.rows(first.shape, call.outputs[0].shape)
    times = math.sqrt(last(call.outputs[0]) / max(last(first), 1))
    return Bound(x.low, x.high, x.norm * times, x.blocks)


def _joined(call: Call) -> Bound:
    """Concat: rows of either value, or rows end to end."""
    given = [(words(o), o) for o in call.inputs if o is not None]
    axis, rank = call.axis, len(call.outputs[0].shape)
    found = given[0][0]
    for other, _ in given[1:]:
        found = found.hull(other)
    if axis != rank - 1:
        return found
    squares = sum(b.length(last(o)) ** 2 for b, o in given)
    blocks = {b: v for b, v in found.blocks.items() if not any(last(o) % b for _, o in given)}
    return Bound(found.low, found.high, math.sqrt(squares), blocks)


def _padded(call: Call) -> Bound:
    x, value = words(call.given(0)), words(call.operand(2))
    found = x.hull(Bound(min(value.low, 0.0), max(value.high, 0.0)))
    return Bound(found.low, found.high)


def _same(call: Call) -> Bound:
    return words(call.given(0))


def with_zeros(call: Call) -> Bound:
    """Elements of the first input, and zeros."""
    x = words(call.given(0))
    return Bound(min(x.low, 0.0), max(x.high, 0.0))


MOVES: dict[str, Bounding] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Identity", "Dropout"), _same),
    **dict.fromkeys(("Split", "Slice", "Gather"), _part),
    **dict.fromkeys(("Expand", "Tile"), _stretched),
    **dict.fromkeys(
        (
            "GatherElements",
            "GatherND",
            "DepthToSpace",
            "SpaceToDepth",
            "Trilu",
            "Compress",
            "ReverseSequence",
        ),
        with_zeros,
    ),
    "Transpose": _transposed,
    "Concat": _joined,
    "Pad": _padded,
}
