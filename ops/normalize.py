"""Layer, RMS, instance and group normalisation: one reciprocal root a row, two products an element.

The sum of squares is a dot product, so one element a row leaves the party (docs/protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.lengths import groups_of, norm_of_rows, scaled_row
from onnxpuma.ops.limits import Arrays, Limit, Limits, asks, of_output, result_size
from onnxpuma.ops.needs import short_rows
from onnxpuma.ops.normalised_rows import normalised, normalised_cost
from onnxpuma.ops.registry import Call, Resolved, Value, operator
from onnxpuma.ops.rows import FINE_NORM, LARGEST_NORM, Rows
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.spread import shift_cost, truncated

_NEAR = 16.0  # a larger bound says little about the size of a value that is no weight
ERROR = "1e-4, in rows of norm above 4096 2e-4 of the result"


def _layer_rows(call: Call) -> Rows:
    shape = call.outputs[0].shape
    axis = call.axis
    centred, up = call.node.op == "LayerNormalization", 2.0 ** call.given(0).finer
    epsilon = float(call.attribute("epsilon")) * up**2
    norm = call.bounds["norm"] * up if "norm" in call.bounds else LARGEST_NORM
    return Rows(shape, axis, centred, epsilon, norm, _largest_scale(call), _largest_bias(call))


def _largest_scale(call: Call) -> float:
    """The largest factor of the result; infinite if it is not known."""
    scale = call.given(1)
    if scale.value is None:
        size = scale.bound.size
        return size if scale.weight or size <= _NEAR else math.inf
    return float(np.abs(scale.value.astype(np.float64)).max(initial=0.0))


def _largest_bias(call: Call) -> float:
    """The largest addend; a value without a proved bound counts as small."""
    bias = call.operand(2)
    if bias is None:
        return 0.0
    if bias.value is None:
        return bias.bound.size if bias.weight else min(bias.bound.size, _NEAR)
    return float(np.abs(bias.value.astype(np.float64)).max(initial=0.0))


def _ordinary(party: Party, call: Call, x: Value) -> Replicated:
    """x read at a resting real's fraction bits: if x has more, both x and its deviation grow by the same
    factor, which the division cancels.
    """
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
    """The limits of a normalisation: on the norm of each row, less a subtracted mean, and on the result."""

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
        if kind.root_first:  # before the scale is applied, a row has length sqrt(count)
            scale = asks("element", largest / math.sqrt(kind.count), 1)
            return (norm, Limit("|result|", of_output(), largest, stays=result_size, needs=scale))
        result = Limit("|result|", of_output(), largest, stays=result_size)
        product = call.ring - 2 - call.reals.fraction - kind.centred_up - kind.scale_fraction
        scaled = short_rows(kind, 2.0**product, scaled=True)
        return (norm, Limit("|x scale|", _scaled_rows, 2.0**product, stays=scaled_row, needs=scaled), result)

    return limits


def _made(call: Call) -> Format:
    return call.outputs[0].resting


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
    follows=True,
    limits=_norms(_layer_rows),
    error=ERROR,
)
def layer_normalization(
    party: Party, call: Call, x: Resolved, scale: Resolved, bias: Resolved | None = None
) -> Protocol[Sequence[Form]]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias."""
    done = yield from normalised(
        party, _ordinary(party, call, x), _layer_rows(call), scale, bias, _made(call)
    )
    assert done.mean is not None
    results = [done.value, done.mean, done.mean]
    if _wanted(call, 2):
        results[2] = yield from truncated(party, done.root)
    return results[: len(call.outputs)]


@operator(
    "RMSNormalization",
    cost=_layer_cost,
    follows=True,
    limits=_norms(_layer_rows),
    error=ERROR,
)
def rms_normalization(party: Party, call: Call, x: Resolved, scale: Resolved) -> Protocol[Sequence[Form]]:
    """x / sqrt(mean of squares + epsilon) * scale."""
    x = _ordinary(party, call, x)
    return [(yield from normalised(party, x, _layer_rows(call), scale, None, _made(call))).value]


def _channel_cost(call: Call) -> Cost:
    return normalised_cost(_channel_rows(call), call)


@operator(
    "InstanceNormalization", "GroupNormalization",
    cost=_channel_cost, follows=True, limits=_norms(_channel_rows), error=ERROR,
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
    done = yield from normalised(party, flat, rows, by_channel(scale), by_channel(bias), _made(call))
    return [done.value.reshape(shape)]
