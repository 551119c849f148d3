"""Layer, RMS, instance and group normalisation: one reciprocal root a row, two products an element.

The sum of squares is a dot product, so one element a row leaves the party. x gamma is truncated while the
root is on its way; then one more product with the root (protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply, sum_of_squares
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.reciprocal import digits_of, inverse_cost, rsqrt
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import resolve, resolve_cost
from onnxpuma.mpc.wide_root import HIGHEST, Readings, wide_rsqrt, wide_rsqrt_cost
from onnxpuma.mpc.words import encode
from onnxpuma.ops.elementwise import as_words, public_scale
from onnxpuma.ops.layout import as_shares
from onnxpuma.ops.limits import Arrays, Limit, Limits
from onnxpuma.ops.registry import FRACTION, Call, Value, operator
from onnxpuma.ops.spread import joined, over_parts, truncated

ROOT_FRACTION = 30
FINE_NORM = 2.0**12  # rows up to this norm are read at all their fraction bits
LARGEST_NORM = 2.0**20  # where calibration has not found another bound
SMALLEST_EPSILON = 2.0**-26  # a smaller one would let the rounding of a constant row show
ERROR = "1e-4, in rows of norm above 4096 2e-4 of the result"
FEW = 96  # rows that one pivot leads alone


@dataclass(frozen=True)
class Rows:
    """How a value of `shape` is normalised: over its last axes from `axis` on, `count` elements a row."""

    shape: tuple[int, ...]
    axis: int
    centred: bool
    epsilon: float
    norm: float = LARGEST_NORM  # every row's is below it

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(self.axis, len(self.shape)))

    @property
    def count(self) -> int:
        return int(np.prod(self.shape[self.axis :], dtype=np.int64))

    @property
    def number(self) -> int:
        return int(np.prod(self.shape[: self.axis], dtype=np.int64))

    @property
    def narrow(self) -> tuple[int, ...]:
        """The shape of one number a row."""
        return (*self.shape[: self.axis], *([1] * len(self.axes)))

    @property
    def offset(self) -> float:
        """What is added to a sum of squares, and so the least that there is to take a root of."""
        return max(self.epsilon, SMALLEST_EPSILON) * self.count

    @property
    def digits(self) -> tuple[int, int]:
        """Of a sum of squares that is read at all its fraction bits."""
        largest = min(self.norm, FINE_NORM) ** 2 + self.offset
        low, high = digits_of(self.offset, largest, 2 * FRACTION)
        return low, (high if self.norm <= FINE_NORM else HIGHEST)

    @property
    def shift(self) -> int:
        """Fraction bits that a row gives up for the coarse reading, 0 where there is none.

        The ring shrinks by as many, so each of them doubles the sum of squares that fits.
        """
        if self.norm <= FINE_NORM:
            return 0
        return max(4, 2 * math.ceil(math.log2(self.norm)) - 26)


def _layer_rows(call: Call) -> Rows:
    shape = call.outputs[0].shape
    axis = int(call.attribute("axis", -1)) % len(shape)
    centred = call.node.op == "LayerNormalization"
    return Rows(
        shape, axis, centred, float(call.attribute("epsilon", 1e-5)), call.bound("norm", LARGEST_NORM)
    )


def _channel_rows(call: Call) -> Rows:
    """(N, groups, elements of a group): instance normalisation has as many groups as channels."""
    batch, channels = call.outputs[0].shape[:2]
    groups = int(call.attribute("num_groups", channels))
    spatial = int(np.prod(call.outputs[0].shape[2:], dtype=np.int64))
    shape, epsilon = (batch, groups, channels // groups * spatial), call.attribute("epsilon", 1e-5)
    return Rows(shape, 2, True, float(epsilon), call.bound("norm", LARGEST_NORM))


def _norms(rows: Callable[[Call], Rows]) -> Limits:
    """The norm of each row, of what is left of it without its mean where that is taken off."""

    def measure(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
        kind = rows(call)
        x = np.asarray(inputs[0], np.float64).reshape(kind.number, kind.count)
        return np.asarray(np.linalg.norm(x - x.mean(axis=1, keepdims=True) if kind.centred else x, axis=1))

    def limits(call: Call) -> tuple[Limit, ...]:
        kind = rows(call)
        what = "the norm of a row without its mean" if kind.centred else "the norm of a row"
        return (Limit(what, measure, max(kind.norm, FINE_NORM), key="norm"),)

    return limits


def mean_factor(count: int) -> tuple[int, int]:
    """1 / count as an integer with as many fraction bits as give it eighteen significant ones."""
    fraction, integer = public_scale(np.float64(1.0 / count))
    return fraction, int(integer)


def _row_means(party: Party, sums: Replicated, count: int) -> Protocol[Replicated]:
    fraction, integer = mean_factor(count)
    scaled = sums.times(np.uint64(integer), fraction)
    return (yield from resolve(party, scaled, party.next_pivot()))


def roots(party: Party, x: Replicated, rows: Rows) -> Protocol[Replicated]:
    """sqrt(count) / sqrt(sum of squares + offset) of each row, (rows,), ROOT_FRACTION fraction bits."""
    readings = [x, x.lowered(rows.shift)] if rows.shift else [x]
    squares = [_squares(party, reading, rows) for reading in readings]
    gain = float(np.sqrt(rows.count))

    def root(piece: slice, pivot: int) -> Protocol[Replicated]:
        parts = [value.map(lambda w: w[piece]) for value in squares]
        if len(parts) == 1:
            return (yield from rsqrt(party, parts[0], pivot, ROOT_FRACTION, rows.digits, gain))
        return (yield from wide_rsqrt(party, parts[0], parts[1], pivot, ROOT_FRACTION, rows.digits[0], gain))

    if rows.number < FEW:
        return (yield from root(slice(None), party.next_pivot()))
    pieces = enumerate(thirds(rows.number))
    return joined((yield from parallel(root(piece, pivot) for pivot, piece in pieces)), (rows.number,))


def _squares(party: Party, x: Replicated, rows: Rows) -> Sum3:
    """The sum of squares of each row, and the offset, (rows,)."""
    total = sum_of_squares(party, x, rows.axes).map(lambda w: w.reshape(-1))
    return total.plus(encode(rows.offset, total.fraction))


def roots_cost(rows: Rows) -> Cost:
    sizes = [rows.number] if rows.number < FEW else [s.stop - s.start for s in thirds(rows.number)]
    gain, total = float(np.sqrt(rows.count)), Cost()
    fine, coarse = 2 * FRACTION, 2 * (FRACTION - rows.shift)
    for size in sizes:
        if rows.shift:
            readings = Readings(fine, coarse, 64 - rows.shift)
            total |= wide_rsqrt_cost(size, readings, ROOT_FRACTION, rows.digits[0], gain)
        else:
            total |= inverse_cost("rsqrt", size, rows.digits, fine, ROOT_FRACTION, gain)
    return total


@dataclass
class Normalised:
    """The result, and for each row its mean (None for RMS) and the reciprocal of its deviation."""

    value: Replicated
    mean: Replicated | None
    root: Replicated


def normalised(party: Party, x: Replicated, rows: Rows, scale: Value, bias: Value) -> Protocol[Normalised]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, both broadcasting."""
    mean: Replicated | None = None
    if rows.centred:
        sums = x.map(lambda w: w.sum(axis=rows.axes, dtype=w.dtype).reshape(-1))
        mean = (yield from _row_means(party, sums, rows.count)).map(lambda w: w.reshape(rows.narrow))
        x = x - mean

    def scaled() -> Protocol[Replicated]:
        if isinstance(scale, Replicated):
            return (yield from truncated(party, multiply(party, x, scale)))
        if scale is None:
            return x
        fraction, integers = public_scale(np.asarray(scale))
        return (yield from truncated(party, x.times(as_words(integers), fraction)))

    root, product = yield from parallel([roots(party, x, rows), scaled()])
    root = root.map(lambda w: w.reshape(rows.narrow))
    y: Any = multiply(party, product, root)
    if isinstance(bias, Replicated):
        y = y.plus_shared(bias)
    elif bias is not None:
        y = y.plus(encode(np.asarray(bias), y.fraction))
    return Normalised((yield from truncated(party, y)), mean, root)


def _cost(rows: Rows, call: Call) -> Cost:
    size = rows.number * rows.count
    total = Cost()
    if rows.centred:
        total = resolve_cost(rows.number, mean_factor(rows.count)[0], form=Replicated)
    product = over_parts(size, lambda n: resolve_cost(n, FRACTION))
    scale = call.operand(1)
    if scale is not None and not scale.secret:
        by = public_scale(scale.value)[0]  # type: ignore[arg-type]
        product = over_parts(size, lambda n: resolve_cost(n, by, form=Replicated)) if by else Cost()
    total = total + (roots_cost(rows) | product)
    return total + over_parts(size, lambda n: resolve_cost(n, ROOT_FRACTION))


def _wanted(call: Call, index: int) -> bool:
    return index < len(call.outputs) and bool(call.outputs[index].name)


def _layer_cost(call: Call) -> Cost:
    rows = _layer_rows(call)
    total = _cost(rows, call)
    if _wanted(call, 2):
        shift = ROOT_FRACTION - FRACTION
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
    done = yield from normalised(party, as_shares(party, x), _layer_rows(call), scale, bias)
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
    return [(yield from normalised(party, as_shares(party, x), _layer_rows(call), scale, None)).value]


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
