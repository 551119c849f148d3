"""Bounds of normalisations, softmax, attention and rotations, whose rows have a known length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.ops.attention_positions import cap_of, given_scale, shapes_of
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.reduce import axes_of
from onnxpuma.ops.registry import Call, Use
from onnxpuma.ops.sight import last, seen

AllBounding = Callable[[Call], Sequence[Bound]]

_GRAIN = 2.0**-20


def normalised_rows(call: Use) -> tuple[int, bool]:
    """The elements of a normalised row, and whether its mean is subtracted."""
    shape = call.given(0).shape
    if call.node.op in ("LayerNormalization", "RMSNormalization"):
        return math.prod(shape[call.axis :]), call.node.op == "LayerNormalization"
    return shape[1] // groups_of(call) * math.prod(shape[2:]), True


def groups_of(call: Use) -> int:
    """Groups of channels that are normalised together; for an instance normalisation, single channels."""
    alone = call.node.op == "InstanceNormalization"
    return int(call.given(0).shape[1] if alone else call.attribute("num_groups"))


def _layer(call: Call) -> list[Bound]:
    """Every row has length sqrt(n) before the scale is applied."""
    (count, centred), n = normalised_rows(call), last(call.outputs[0])
    scale, bias = seen(call.operand(1)) if call.present(1) else Bound(1.0, 1.0), seen(call.operand(2))
    largest = math.sqrt(count - 1 if centred and count > 1 else count)
    y = Bound(-largest, largest, math.sqrt(count)).by(Bound(-scale.size, scale.size), n)
    y = Bound(y.low, y.high, y.norm).plus(_row_of(call, 2, bias), n)
    x = seen(call.given(0))
    root = 1.0 / math.sqrt(max(float(call.attribute("epsilon")), 2.0**-40))
    return [y, Bound(x.low, x.high), Bound(0.0, root)]


def _row_of(call: Call, place: int, bound: Bound) -> Bound:
    operand = call.operand(place)
    return bound if operand is None else bound.rows(operand.shape, call.outputs[0].shape)


def _channels(call: Call) -> list[Bound]:
    return [_layer(call)[0].only()]


def _batch(call: Call) -> list[Bound]:
    x, scale, bias, mean, variance = (seen(call.given(p)) for p in range(5))
    least = max(variance.low, 0.0) + float(call.attribute("epsilon"))
    most = scale.size / math.sqrt(least) if least > 0 else math.inf
    centred = x.only().plus(mean.only().times(-1.0), 1)
    return [centred.by(Bound(-most, most), 1).plus(bias.only(), 1).only()]


def _softmax(call: Call) -> list[Bound]:
    rank = len(call.given(0).shape)
    axis = call.axis
    if axis == rank - 1:
        return [Bound(0.0, 1.0, 1.0, {}, {"row sum": 1.0})]
    matrix = {"column": 1.0, "sum": 1.0} if axis == rank - 2 else {}
    return [Bound(0.0, 1.0, math.inf, {}, matrix)]


def head_length(call: Use, place: int) -> float:
    """The largest length of a head of queries (place 0), keys (1) or values (2), past ones included."""
    s, operand = shapes_of(call), call.given(place)
    found = seen(operand).length(s.value_size if place == 2 else s.size)
    past = call.operand(place + 3) if place else None
    return found if past is None else max(found, seen(past).length(last(past)))


def _values(call: Call, place: int) -> Bound:
    """Keys or values by heads, past ones included."""
    s = shapes_of(call)
    bound, past = seen(call.given(place)), call.operand(place + 3)
    both = bound.only() if past is None else bound.only().hull(seen(past).only())
    return Bound(both.low, both.high, head_length(call, place), {}) if s.keys else both


def _attention(call: Call) -> list[Bound]:
    """The result lies between the values, or is zero in a fully masked row."""
    s, v = shapes_of(call), _values(call, 2)
    low, high = min(v.low, 0.0), max(v.high, 0.0)
    length = v.length(s.value_size)
    if len(call.outputs[0].shape) == 4:
        context = Bound(low, high, length)
    else:
        context = Bound(low, high, length * math.sqrt(s.heads), {s.value_size: length})
    return [context, _values(call, 1), v, UNKNOWN][: len(call.outputs)]


def _rotary(call: Call) -> list[Bound]:
    return [rotated(call)]


def rotated(call: Use) -> Bound:
    """A rotation keeps the length of each pair."""
    x, operand = seen(call.given(0)), call.given(0)
    heads = operand.shape[1] if len(operand.shape) == 4 else int(call.attribute("num_heads"))
    size = operand.shape[-1] if len(operand.shape) == 4 else operand.shape[-1] // heads
    by = _radius(call)
    length = x.length(size) * by
    most = min(x.size * math.sqrt(2.0) * by, length)
    whole = length if len(operand.shape) == 4 else min(x.norm * by, length * math.sqrt(heads))
    return Bound(-most, most, whole, {size: length})


def _radius(call: Use) -> float:
    """How much longer the tables make a pair; at least 1, the factor of features that are not rotated."""
    cosines, sines = call.public(1), call.public(2)
    if cosines is not None and sines is not None and cosines.shape == sines.shape:
        return radius_of(cosines, sines)
    return max(1.0, seen(call.given(1)).size + seen(call.given(2)).size)


def radius_of(cosines: np.ndarray, sines: np.ndarray) -> float:
    """The largest root of a sum of squares, and 1, rounded up far beyond the errors of single precision: all
    positions have the same, so a plan for other ones finds the same bounds."""
    squares = cosines.astype(np.float64) ** 2 + sines.astype(np.float64) ** 2
    radius = max(1.0 + _GRAIN, math.sqrt(float(squares.max(initial=0.0))))
    return math.ceil(radius / _GRAIN) * _GRAIN if math.isfinite(radius) else radius


def spread_of_scores(call: Use) -> float:
    """The largest distance of two scores of a row of Attention or a softmax, without a mask's addends."""
    if call.node.op == "Attention":
        cap = cap_of(call)
        apart = 2.0 * largest_score(call)
        return min(apart, 2.0 * cap) if cap else apart
    operand = call.given(0)
    x, rank = operand.bound, len(operand.shape)
    axes = axes_of(call) if call.node.op == "ReduceLogSumExp" else (call.axis,)
    if [axis % max(rank, 1) for axis in axes] != [rank - 1]:
        return x.high - x.low
    return min(x.high - x.low, math.sqrt(2.0) * x.length(last(operand)))


def largest_score(call: Use) -> float:
    """The largest |scale q k'| of an attention."""
    return abs(given_scale(call)) * head_length(call, 0) * head_length(call, 1)


def norm_of_rows(call: Use) -> float:
    """The largest length of a row to be normalised, less its mean if that is subtracted."""
    (count, centred), operand = normalised_rows(call), call.given(0)
    x, n = seen(operand), last(operand)
    length = x.size * math.sqrt(count)
    if count % n == 0:
        length = min(length, x.length(n) * math.sqrt(count / n))
    if centred:
        length = min(length, (x.high - x.low) / 2 * math.sqrt(count))
    return length * 2.0**operand.finer


def scaled_row(call: Call) -> float:
    """The largest |x scale| of a normalisation, less the mean if that is subtracted."""
    x, scale = seen(call.given(0)), seen(call.operand(1)).size if call.present(1) else 1.0
    centred = normalised_rows(call)[1]
    size = min(x.high - x.low, norm_of_rows(call)) if centred else x.size
    return size * scale * 2.0 ** call.given(0).finer


def argument(call: Use) -> float:
    """The largest |x| of the first input."""
    return seen(call.given(0)).size


LENGTHS: dict[str, AllBounding] = {
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _channels),
    "BatchNormalization": _batch,
    "Softmax": _softmax,
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
}
