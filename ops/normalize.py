"""Layer, RMS, instance and group normalisation: one reciprocal root a row, two products an element.

The sum of squares is a dot product, so one element a row leaves the party (docs/protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.lengths import groups_of, norm_of_rows, normalised_rows, scaled_row
from onnxpuma.ops.limits import Arrays, Limit, Limits, asks, of_output, result_size
from onnxpuma.ops.needs import ROOM, short_rows
from onnxpuma.ops.normalised_rows import beside_roots, normalised, normalised_cost, read_cost
from onnxpuma.ops.registry import Call, Resolved, Use, Value, operator
from onnxpuma.ops.row_roots import fastest_roots
from onnxpuma.ops.rows import LARGEST_NORM, Centring, Rows, exponent
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.spread import shift_cost, truncated

_NEAR = 16.0  # a larger bound says little about the size of a value that is no weight
ERROR = "1e-4, in rows of norm above 4096 2e-4 of the result"


def _rows(call: Call, shape: tuple[int, ...], axis: int) -> Rows:
    """How x is normalised over these axes: centred in the fastest way for which its rows leave room."""
    up = call.given(0).finer  # x is read at a resting real's fraction bits
    epsilon, norm = float(call.attribute("epsilon")) * 4.0**up, call.bound("norm", LARGEST_NORM)
    scale, bias = _largest_scale(call), _largest_bias(call)
    rows = Rows(shape, axis, Centring.NONE, epsilon, norm, scale, bias)
    if not normalised_rows(call)[1]:
        return _multiplied(call, fastest_roots(rows, call.network))
    if _centres_terms(call, 0):
        return _multiplied(call, fastest_roots(replace(rows, centring=Centring.TERMS), call.network))
    mean, exact = (
        fastest_roots(replace(rows, centring=way), call.network) for way in (Centring.MEAN, Centring.EXACT)
    )
    if _wanted(call, 1) or _wanted(call, 2) or not exact.exact:
        return _multiplied(call, mean)
    ways = {"centred exactly": exact, "less a truncated mean": mean}
    found = call.network.fastest({name: normalised_cost(way, call) for name, way in ways.items()})
    return _multiplied(call, ways[found])


def _multiplied(call: Call, after: Rows) -> Rows:
    """The fastest way to multiply rows by their roots."""
    made = call.outputs[0].resting
    beside = beside_roots(after, call, made)
    if beside is None:
        return after
    ways = {"product after the root": after, "product beside the root": beside}
    costs = {name: normalised_cost(rows, call, made.bits) for name, rows in ways.items()}
    return ways[call.network.fastest(costs)]


def _layer_rows(call: Call) -> Rows:
    """Found once for all calls that are alike: cost, limits, formats and every run ask for them."""
    return call.content.once(_layer_rows, lambda: _rows(call, call.given(0).shape, call.axis))


def _channel_rows(call: Call) -> Rows:
    """(N, groups, elements of a group): instance normalisation has as many groups as channels."""
    batch, channels, *spatial = call.given(0).shape
    groups = groups_of(call)
    return _rows(call, (batch, groups, channels // groups * math.prod(spatial)), 2)


def _centres_terms(call: Use, place: int) -> bool:
    """Whether the rows of a product may arrive untruncated: it is proved that n times a row, less its mean,
    fits, since a check reads whole rows of a truncated value only.
    """
    if place or call.given(0).form is not Sum3 or _wanted(call, 1) or _wanted(call, 2):
        return False
    proved = norm_of_rows(call) < call.bound("norm", LARGEST_NORM)
    return proved and normalised_rows(call)[1] and _numerators(call) <= call.given(0).format.largest


def _numerators(call: Use) -> float:
    """The largest element of n x - sum(x), with room for rounding."""
    return normalised_rows(call)[0] * norm_of_rows(call) * 2.0 ** -call.given(0).finer / ROOM


def _accepts(call: Call, place: int) -> Format | None:
    """A product in any ring that holds it, where its rows can be centred exactly once it is truncated; else
    in one that holds n times a row as well.
    """
    x, rows = call.given(0), _layer_rows(call)
    if place or x.form is not Sum3 or not rows.centred:
        return None
    if replace(rows, centring=Centring.EXACT).exact:
        return x.format.modulo(x.fraction + 2)
    if rows.centring is not Centring.TERMS:
        return None
    return x.format.modulo(x.fraction + 2 + exponent(_numerators(call)))


def _largest_scale(call: Use) -> float:
    """The largest factor of the result; infinite if it is not known."""
    scale = call.given(1)
    if scale.value is None:
        size = scale.bound.size
        return size if scale.weight or size <= _NEAR else math.inf
    return float(np.abs(scale.value.astype(np.float64)).max(initial=0.0))


def _largest_bias(call: Use) -> float:
    """The largest addend; a value without a proved bound counts as small."""
    bias = call.operand(2)
    if bias is None:
        return 0.0
    if bias.value is None:
        return bias.bound.size if bias.weight else min(bias.bound.size, _NEAR)
    return float(np.abs(bias.value.astype(np.float64)).max(initial=0.0))


def _ordinary(party: Party, call: Call, x: Value) -> Shares:
    """x read at a resting real's fraction bits: if x has more, both x and its deviation grow by the same
    factor, which the division cancels.
    """
    held = x if isinstance(x, Sum3) else as_shares(party, x, call.reals)
    return held.with_fraction(held.fraction - call.given(0).finer)


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
        below = kind.longest
        norm = Limit(what, measure, below, key="norm", stays=norm_of_rows, needs=short_rows(kind, below))
        largest = kind.largest_result
        if kind.root_first:  # before the scale is applied, a row has length sqrt(count)
            scale = asks("element", largest / math.sqrt(kind.count), 1)
            return (norm, Limit("|result|", of_output(), largest, stays=result_size, needs=scale))
        result = Limit("|result|", of_output(), largest, stays=result_size)
        product = call.at(call.reals.fraction + kind.centred_up + kind.scale_fraction).largest / kind.stretch
        scaled = short_rows(kind, product, scaled=True)
        return (norm, Limit("|x scale|", _scaled_rows, product, stays=scaled_row, needs=scaled), result)

    return limits


def _formats(call: Call) -> tuple[Format, Format]:
    """In which rows are read, and in which the result rests."""
    return call.reals, call.outputs[0].resting


def _wanted(call: Use, index: int) -> bool:
    return index < len(call.node.outputs) and bool(call.node.outputs[index])


def _layer_cost(call: Call) -> Cost:
    rows = _layer_rows(call)
    total = normalised_cost(rows, call, call.outputs[0].resting.bits)
    if call.given(0).form is Sum3 and rows.centring is not Centring.TERMS:
        total = read_cost(rows, call) + total
    if _wanted(call, 2):
        shift = rows.root_fraction - call.reals.fraction
        total = total + shift_cost(rows.number, shift, call.ring, Replicated)
    return total


@operator(
    "LayerNormalization",
    cost=_layer_cost,
    accepts=_accepts,
    follows=True,
    limits=_norms(_layer_rows),
    error=ERROR,
    defers=_centres_terms,
)
def layer_normalization(
    party: Party, call: Call, x: Value, scale: Resolved, bias: Resolved | None = None
) -> Protocol[Sequence[Form]]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias."""
    done = yield from normalised(
        party, _ordinary(party, call, x), _layer_rows(call), scale, bias, *_formats(call)
    )
    if done.mean is None:
        return [done.value]
    results = [done.value, done.mean, done.mean]
    if _wanted(call, 2) and done.root is not None:
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
    done = yield from normalised(
        party, _ordinary(party, call, x), _layer_rows(call), scale, None, *_formats(call)
    )
    return [done.value]


def _channel_cost(call: Call) -> Cost:
    return normalised_cost(_channel_rows(call), call, call.outputs[0].resting.bits)


@operator(
    "InstanceNormalization", "GroupNormalization",
    cost=_channel_cost, follows=True, limits=_norms(_channel_rows), error=ERROR, defers=_centres_terms,
)  # fmt: skip
def channel_normalization(
    party: Party, call: Call, x: Value, scale: Resolved, bias: Resolved
) -> Protocol[Sequence[Form]]:
    """Channels (or groups of them) normalised over space, with a scale and a bias for each channel."""
    held = _ordinary(party, call, x)
    rows, shape = _channel_rows(call), held.shape
    channels, spatial = shape[1], int(np.prod(shape[2:], dtype=np.int64))
    groups = rows.shape[1]

    def by_channel(value: Resolved) -> Resolved:  # (C,) -> (1, groups, C / groups * spatial)
        spaced, wide = value.reshape(1, groups, -1, 1), (1, groups, channels // groups, spatial)
        if isinstance(spaced, np.ndarray):
            return np.broadcast_to(spaced, wide).reshape(1, groups, -1)
        return spaced.broadcast_to(wide).reshape(1, groups, -1)

    flat = held.reshape(rows.shape)
    done = yield from normalised(party, flat, rows, by_channel(scale), by_channel(bias), *_formats(call))
    return [done.value.reshape(shape)]
