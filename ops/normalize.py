"""Layer, RMS, instance and group normalisation: one reciprocal root a row, two products an element.

The sum of squares is a dot product, so one element a row leaves the party. x gamma is truncated while the
root is on its way; then one more product with the root (protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.ops.elementwise import public_scale
from onnxpuma.ops.lengths import groups_of, norm_of_rows, scaled_row
from onnxpuma.ops.limits import Arrays, Limit, Limits, asks, of_output, result_size
from onnxpuma.ops.needs import short_rows
from onnxpuma.ops.registry import Call, Resolved, Value, operator
from onnxpuma.ops.rows import FINE_NORM, LARGEST_NORM, Rows, roots, roots_cost
from onnxpuma.ops.shares import as_shares, replicated
from onnxpuma.ops.spread import shift_cost, truncated

MEAN_BITS = 14  # significant ones of 1 / count: what they miss of the mean is taken off by a second one
_NEAR = 16.0  # a bound of what is no weight tells little of its size where it is larger
ERROR = "1e-4, in rows of norm above 4096 2e-4 of the result"


def _layer_rows(call: Call) -> Rows:
    shape = call.outputs[0].shape
    axis = call.axis
    centred, up = call.node.op == "LayerNormalization", 2.0 ** call.given(0).finer
    epsilon = float(call.attribute("epsilon")) * up**2
    norm = call.bounds["norm"] * up if "norm" in call.bounds else LARGEST_NORM
    return Rows(shape, axis, centred, epsilon, norm, _largest_scale(call), _largest_bias(call))


def _largest_scale(call: Call) -> float:
    """No factor of the result is larger; infinite where that is not known."""
    scale = call.given(1)
    if scale.value is None:
        size = scale.bound.size
        return size if scale.weight or size <= _NEAR else math.inf
    return float(np.abs(scale.value.astype(np.float64)).max(initial=0.0))


def _largest_bias(call: Call) -> float:
    """No addend is larger; one that is taken for small where that is not known."""
    bias = call.operand(2)
    if bias is None:
        return 0.0
    if bias.value is None:
        return bias.bound.size if bias.weight else min(bias.bound.size, _NEAR)
    return float(np.abs(bias.value.astype(np.float64)).max(initial=0.0))


def _ordinary(party: Party, call: Call, x: Value) -> Replicated:
    """x as words of a resting real's fraction bits: a value with more is as many times larger, and so is each
    row's deviation, by which it is divided."""
    return as_shares(party, x, call.reals).with_fraction(call.reals.fraction)


def _channel_rows(call: Call) -> Rows:
    """(N, groups, elements of a group): instance normalisation has as many groups as channels."""
    batch, channels = call.outputs[0].shape[:2]
    groups = groups_of(call)
    spatial = int(np.prod(call.outputs[0].shape[2:], dtype=np.int64))
    shape, epsilon = (batch, groups, channels // groups * spatial), call.attribute("epsilon")
    norm = call.bound("norm", LARGEST_NORM)
    return Rows(shape, 2, True, float(epsilon), norm, _largest_scale(call), _largest_bias(call))


def _scaled_rows(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x, scale = (np.asarray(inputs[i], np.float64) for i in (0, 1))
    if call.node.op in ("InstanceNormalization", "GroupNormalization"):
        scale = scale.reshape(-1, *[1] * (x.ndim - 2))
    return np.abs(x * scale)


def _norms(rows: Callable[[Call], Rows]) -> Limits:
    """The norm of each row, of what is left of it without its mean where that is taken off."""

    def measure(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
        kind = rows(call)
        x = np.asarray(inputs[0], np.float64).reshape(kind.number, kind.count) * 2.0 ** call.given(0).finer
        return np.asarray(np.linalg.norm(x - x.mean(axis=1, keepdims=True) if kind.centred else x, axis=1))

    def limits(call: Call) -> tuple[Limit, ...]:
        kind = rows(call)
        what = "the norm of a row without its mean" if kind.centred else "the norm of a row"
        below = max(kind.norm, FINE_NORM)
        norm = Limit(what, measure, below, key="norm", stays=norm_of_rows, needs=short_rows(kind, below))
        largest = kind.largest_result
        if kind.root_first:  # a row has length sqrt(count) before it is multiplied by the scale
            scale = asks("element", largest / math.sqrt(kind.count), 1)
            return (norm, Limit("|result|", of_output(), largest, stays=result_size, needs=scale))
        result = Limit("|result|", of_output(), largest, stays=result_size)
        product = call.ring - 2 - call.reals.fraction - kind.centred_up - kind.scale_fraction
        scaled = short_rows(kind, 2.0**product, scaled=True)
        return (norm, Limit("|x scale|", _scaled_rows, 2.0**product, stays=scaled_row, needs=scaled), result)

    return limits


def mean_factor(count: int, least: int = 0) -> tuple[int, int]:
    """1 / count as an integer of MEAN_BITS bits and its fraction bits, `least` or more."""
    whole = count & (count - 1) == 0
    fraction = max(least, count.bit_length() - 1 + (0 if whole else MEAN_BITS))
    return fraction, (2 * (1 << fraction) + count) // (2 * count)


def _row_sums(x: Replicated, rows: Rows) -> Replicated:
    return x.sum(rows.axes).reshape(-1)


def _means(party: Party, x: Replicated, rows: Rows, up: int) -> Protocol[Replicated]:
    """The mean of each row at `up` more fraction bits than x has, (..., 1)."""
    fraction, integer = mean_factor(rows.count, up)
    scaled = _row_sums(x, rows).times_integers(integer, fraction)
    means = yield from resolve(party, scaled, party.next_pivot(), x.format.finer(up))
    return means.reshape(rows.narrow)


def _means_cost(rows: Rows, up: int) -> Cost:
    return resolve_cost(rows.number, mean_factor(rows.count, up)[0] - up, RESTING.bits, Replicated)


@dataclass
class Normalised:
    """The result, and for each row its mean (None for RMS) and the reciprocal of its deviation."""

    value: Replicated
    mean: Replicated | None
    root: Replicated


def normalised(
    party: Party, x: Replicated, rows: Rows, scale: Resolved | None, bias: Resolved | None
) -> Protocol[Normalised]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, both broadcasting."""
    mean: Replicated | None = None
    between = x.format.at(rows.product_fraction)
    if rows.centred:  # less its first element, so that a constant row is zero, and a large mean costs nothing
        start = (slice(None),) * rows.axis + (slice(0, 1),) * len(rows.axes)
        first = x[start]
        x = x - first
        mean = yield from _means(party, x, rows, 0)
        x, mean = x - mean, mean + first

    def fine() -> Protocol[Replicated]:
        """x less what the mean still misses of it."""
        up = rows.centred_up
        if not up:
            return x
        return x.aligned(x.fraction + up) - (yield from _means(party, x, rows, up))

    def scaled() -> Protocol[Replicated]:
        if isinstance(scale, Replicated):  # with no more fraction bits than there is room for
            narrow = truncated(party, scale, scale.format.at(min(scale.fraction, rows.scale_fraction)))
            value, by = yield from parallel([fine(), narrow])
            return (yield from truncated(party, multiply(party, value, by), between))
        value = yield from fine()
        if scale is None:
            return value
        fraction, integers = _public_factor(rows, np.asarray(scale))
        product = value.times_integers(integers, fraction)
        if product.fraction <= rows.product_fraction:
            return product
        return (yield from truncated(party, product, between))

    root, product = yield from parallel([roots(party, x, rows), fine() if rows.root_first else scaled()])
    root = root.reshape(rows.narrow)
    y = multiply(party, product, root)
    if rows.root_first:
        y = multiply(party, (yield from truncated(party, y, between)), replicated(scale))
    if isinstance(bias, np.ndarray):
        y = y.plus_numbers(bias)
    elif bias is not None:
        y = y.plus_shared(bias)
    return Normalised((yield from truncated(party, y)), mean, root)


def _public_factor(rows: Rows, scale: np.ndarray) -> tuple[int, np.ndarray]:
    """(fraction bits, integers) of a public scale, no more bits than there is room for."""
    fraction, integers = public_scale(scale)
    if fraction <= rows.scale_fraction:
        return fraction, integers
    return rows.scale_fraction, np.rint(scale.astype(np.float64) * 2.0**rows.scale_fraction).astype(np.int64)


def normalised_cost(rows: Rows, call: Call) -> Cost:
    size, fraction = rows.number * rows.count, call.reals.fraction + rows.centred_up
    scale, form = call.given(1), (Sum3 if call.secret(1) else Replicated)
    total, before = Cost(), Cost()
    if rows.centred:
        total = _means_cost(rows, 0)
    if rows.centred_up:
        before = _means_cost(rows, rows.centred_up)
    if rows.root_first:
        first = fraction + rows.root_fraction - rows.product_fraction
        total = total + (roots_cost(rows) | before) + shift_cost(size, first, call.ring)
        return total + shift_cost(size, rows.product_fraction, call.ring)
    by = rows.scale_fraction if scale.secret else _public_factor(rows, scale.value)[0]  # type: ignore[arg-type]
    if scale.secret and by < call.reals.fraction:
        before |= shift_cost(scale.size, call.reals.fraction - by, call.ring, Replicated)
    made = min(fraction + by, rows.product_fraction)
    product = Cost()
    if fraction + by > made:
        product = shift_cost(size, fraction + by - made, call.ring, form)
    total = total + (roots_cost(rows) | (before + product))
    return total + shift_cost(size, made + rows.root_fraction - call.reals.fraction, call.ring)


def _wanted(call: Call, index: int) -> bool:
    return index < len(call.outputs) and bool(call.outputs[index].name)


def _layer_cost(call: Call) -> Cost:
    rows = _layer_rows(call)
    total = normalised_cost(rows, call)
    if _wanted(call, 2):
        shift = rows.root_fraction - call.reals.fraction
        total = total + shift_cost(rows.number, shift, call.ring, Replicated)
    return total


@operator(
    "LayerNormalization",
    cost=_layer_cost,
    limits=_norms(_layer_rows),
    error=ERROR,
)
def layer_normalization(
    party: Party, call: Call, x: Resolved, scale: Resolved, bias: Resolved | None = None
) -> Protocol[Sequence[Form]]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias."""
    done = yield from normalised(party, _ordinary(party, call, x), _layer_rows(call), scale, bias)
    assert done.mean is not None
    results = [done.value, done.mean, done.mean]
    if _wanted(call, 2):
        results[2] = yield from truncated(party, done.root)
    return results[: len(call.outputs)]


@operator(
    "RMSNormalization",
    cost=_layer_cost,
    limits=_norms(_layer_rows),
    error=ERROR,
)
def rms_normalization(party: Party, call: Call, x: Resolved, scale: Resolved) -> Protocol[Sequence[Form]]:
    """x / sqrt(mean of squares + epsilon) * scale."""
    x = _ordinary(party, call, x)
    return [(yield from normalised(party, x, _layer_rows(call), scale, None)).value]


def _channel_cost(call: Call) -> Cost:
    return normalised_cost(_channel_rows(call), call)


@operator(
    "InstanceNormalization", "GroupNormalization",
    cost=_channel_cost, limits=_norms(_channel_rows), error=ERROR,
)  # fmt: skip
def channel_normalization(
    party: Party, call: Call, x: Value, scale: Resolved, bias: Resolved
) -> Protocol[Sequence[Form]]:
    """Channels (or groups of them) normalised over space, with a scale and a bias for each channel."""
    held = as_shares(party, x, call.reals)
    rows, shape = _channel_rows(call), held.shape
    channels, spatial = shape[1], int(np.prod(shape[2:], dtype=np.int64))
    groups = rows.shape[1]

    def by_channel(value: Resolved) -> Resolved:  # (C,) -> (1, groups, C / groups * spatial)
        spaced, wide = value.reshape(1, groups, -1, 1), (1, groups, channels // groups, spatial)
        if isinstance(spaced, np.ndarray):
            return np.broadcast_to(spaced, wide).reshape(1, groups, -1)
        return spaced.broadcast_to(wide).reshape(1, groups, -1)

    flat = held.reshape(rows.shape)
    done = yield from normalised(party, flat, rows, by_channel(scale), by_channel(bias))
    return [done.value.reshape(shape)]
