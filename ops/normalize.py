"""Layer, RMS, instance and group normalisation: one reciprocal root a row, two products an element.

The sum of squares is a dot product, so one element a row leaves the party. x gamma is truncated while the
root is on its way; then one more product with the root (protocols.md, section 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import resolve, resolve_cost
from onnxpuma.mpc.words import encode
from onnxpuma.ops.elementwise import as_words, public_scale
from onnxpuma.ops.layout import as_shares
from onnxpuma.ops.lengths import norm_of_rows, scaled_row
from onnxpuma.ops.limits import Arrays, Limit, Limits, of_output, result_size
from onnxpuma.ops.needs import short_rows, small_rows
from onnxpuma.ops.registry import FRACTION, Call, Value, operator
from onnxpuma.ops.rows import FINE_NORM, LARGEST_NORM, Rows, roots, roots_cost
from onnxpuma.ops.spread import over_parts, truncated

CENTRED_FRACTION = 20  # of x less its mean: the rounding is multiplied by the root, large for a small row
ERROR = "1e-4, in rows of norm above 4096 2e-4 of the result"


def _layer_rows(call: Call) -> Rows:
    shape = call.outputs[0].shape
    axis = int(call.attribute("axis", -1)) % len(shape)
    centred, up = call.node.op == "LayerNormalization", 2.0 ** call.given(0).finer
    epsilon = float(call.attribute("epsilon", 1e-5)) * up**2
    norm = call.bounds["norm"] * up if "norm" in call.bounds else LARGEST_NORM
    return Rows(shape, axis, centred, epsilon, norm)


def _ordinary(party: Party, call: Call, x: Value) -> Replicated:
    """x as words of FRACTION fraction bits: a value with more is as many times larger, and so is each row's
    deviation, by which it is divided."""
    return as_shares(party, x).with_fraction(FRACTION)


def _channel_rows(call: Call) -> Rows:
    """(N, groups, elements of a group): instance normalisation has as many groups as channels."""
    batch, channels = call.outputs[0].shape[:2]
    groups = int(call.attribute("num_groups", channels))
    spatial = int(np.prod(call.outputs[0].shape[2:], dtype=np.int64))
    shape, epsilon = (batch, groups, channels // groups * spatial), call.attribute("epsilon", 1e-5)
    return Rows(shape, 2, True, float(epsilon), call.bound("norm", LARGEST_NORM))


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
        product = 62 - FRACTION - (CENTRED_FRACTION if kind.centred else FRACTION)
        return (
            norm,
            Limit("|x scale|", _scaled_rows, 2.0**product, stays=scaled_row, needs=small_rows(2.0**product)),
            Limit(
                "|result|",
                of_output(),
                2.0 ** (62 - kind.product_fraction - kind.root_fraction),
                stays=result_size,
            ),
        )

    return limits


def mean_factor(count: int) -> tuple[int, int]:
    """1 / count as an integer with as many fraction bits as give it eighteen significant ones."""
    fraction, integer = public_scale(np.float64(1.0 / count))
    return fraction, int(integer)


def _row_means(party: Party, sums: Replicated, count: int) -> Protocol[list[Replicated]]:
    """At FRACTION and at CENTRED_FRACTION fraction bits."""
    fraction, integer = mean_factor(count)
    scaled, pivot = sums.times(np.uint64(integer), fraction), party.next_pivot()
    return (yield from parallel(resolve(party, scaled, pivot, f) for f in (FRACTION, CENTRED_FRACTION)))


@dataclass
class Normalised:
    """The result, and for each row its mean (None for RMS) and the reciprocal of its deviation."""

    value: Replicated
    mean: Replicated | None
    root: Replicated


def normalised(party: Party, x: Replicated, rows: Rows, scale: Value, bias: Value) -> Protocol[Normalised]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, both broadcasting."""
    mean: Replicated | None = None
    fine = x
    if rows.centred:
        sums = x.map(lambda w: w.sum(axis=rows.axes, dtype=w.dtype).reshape(-1))
        means = yield from _row_means(party, sums, rows.count)
        mean, finer = (m.map(lambda w: w.reshape(rows.narrow)) for m in means)
        up = CENTRED_FRACTION - FRACTION
        x, fine = x - mean, x.times(np.uint64(1 << up), up) - finer

    def scaled() -> Protocol[Replicated]:
        if isinstance(scale, Replicated):
            return (yield from truncated(party, multiply(party, fine, scale), rows.product_fraction))
        if scale is None:
            return fine
        fraction, integers = public_scale(np.asarray(scale))
        product = fine.times(as_words(integers), fraction)
        if product.fraction <= rows.product_fraction:
            return product
        return (yield from truncated(party, product, rows.product_fraction))

    root, product = yield from parallel([roots(party, x, rows), scaled()])
    root = root.map(lambda w: w.reshape(rows.narrow))
    y: Any = multiply(party, product, root)
    if isinstance(bias, Replicated):
        y = y.plus_shared(bias)
    elif bias is not None:
        y = y.plus(encode(np.asarray(bias), y.fraction))
    return Normalised((yield from truncated(party, y)), mean, root)


def _cost(rows: Rows, call: Call) -> Cost:
    size, fraction = rows.number * rows.count, FRACTION
    total = Cost()
    if rows.centred:
        shift = mean_factor(rows.count)[0]
        fraction = CENTRED_FRACTION
        for down in (shift, shift + FRACTION - CENTRED_FRACTION):
            total |= resolve_cost(rows.number, down, form=Replicated)
    scale, form = call.given(1), (Sum3 if call.secret(1) else Replicated)
    by = FRACTION if scale.secret else public_scale(scale.value)[0]  # type: ignore[arg-type]
    made = min(fraction + by, rows.product_fraction)
    product = Cost()
    if fraction + by > made:
        product = over_parts(size, lambda n: resolve_cost(n, fraction + by - made, form=form))
    total = total + (roots_cost(rows) | product)
    return total + over_parts(size, lambda n: resolve_cost(n, made + rows.root_fraction - FRACTION))


def _wanted(call: Call, index: int) -> bool:
    return index < len(call.outputs) and bool(call.outputs[index].name)


def _layer_cost(call: Call) -> Cost:
    rows = _layer_rows(call)
    total = _cost(rows, call)
    if _wanted(call, 2):
        shift = rows.root_fraction - FRACTION
        total = total + over_parts(rows.number, lambda n: resolve_cost(n, shift, form=Replicated))
    return total


@operator(
    "LayerNormalization",
    cost=_layer_cost,
    limits=_norms(_layer_rows),
    error=ERROR,
)
def layer_normalization(
    party: Party, call: Call, x: Value, scale: Value, bias: Value = None
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
def rms_normalization(party: Party, call: Call, x: Value, scale: Value) -> Protocol[Sequence[Form]]:
    """x / sqrt(mean of squares + epsilon) * scale."""
    x = _ordinary(party, call, x)
    return [(yield from normalised(party, x, _layer_rows(call), scale, None)).value]


def _channel_cost(call: Call) -> Cost:
    return _cost(_channel_rows(call), call)


@operator(
    "InstanceNormalization", "GroupNormalization",
    cost=_channel_cost, limits=_norms(_channel_rows), error=ERROR,
)  # fmt: skip
def channel_normalization(
    party: Party, call: Call, x: Value, scale: Value, bias: Value
) -> Protocol[Sequence[Form]]:
    """Channels (or groups of them) normalised over space, with a scale and a bias for each channel."""
    held = as_shares(party, x)
    rows, shape = _channel_rows(call), held.shape
    channels, spatial = shape[1], int(np.prod(shape[2:], dtype=np.int64))
    groups = rows.shape[1]

    def by_channel(words: np.ndarray) -> np.ndarray:  # (C,) -> (1, groups, C / groups * spatial)
        spaced = words.reshape(1, groups, channels // groups, 1)
        return np.broadcast_to(spaced, (1, groups, channels // groups, spatial)).reshape(1, groups, -1)

    flat = held.map(lambda w: w.reshape(rows.shape))
    done = yield from normalised(party, flat, rows, _mapped(scale, by_channel), _mapped(bias, by_channel))
    return [done.value.map(lambda w: w.reshape(shape))]


def _mapped(value: Value, layout: Callable[[np.ndarray], np.ndarray]) -> Value:
    if isinstance(value, np.ndarray):
        return layout(value)
    assert isinstance(value, Replicated)
    return value.map(layout)
