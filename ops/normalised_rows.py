"""Normalised rows: less their mean, over their deviation, times a scale, plus a bias.

x times the scale is truncated while the reciprocal root is being computed; the product with the root follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3, joined
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.pivots import FEW_ROWS, over_parts
from onnxpuma.mpc.protocols.row_factor import times_factors, times_factors_cost
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.ops.factors import public_scale
from onnxpuma.ops.registry import Resolved, Use
from onnxpuma.ops.row_roots import parts_of, roots, roots_at_twins, roots_at_twins_cost, roots_cost
from onnxpuma.ops.rows import Centring, Rows
from onnxpuma.ops.shares import replicated
from onnxpuma.ops.spread import shift_cost, truncated

MEAN_BITS = 14  # significant bits of 1 / count: a second mean corrects the error of the first


def mean_factor(count: int, least: int = 0) -> tuple[int, int]:
    """1 / count as its fraction bits, at least `least`, and an integer of MEAN_BITS significant bits."""
    whole = count & (count - 1) == 0
    fraction = max(least, count.bit_length() - 1 + (0 if whole else MEAN_BITS))
    return fraction, (2 * (1 << fraction) + count) // (2 * count)


def _means(party: Party, x: Replicated, rows: Rows, up: int) -> Protocol[Replicated]:
    """The mean of each row, at `up` fraction bits more than x, (..., 1)."""
    fraction, integer = mean_factor(rows.count, up)
    scaled = x.sum(rows.axes).reshape(-1).times_integers(integer, fraction)
    means = yield from resolve(party, scaled, party.next_pivot(), x.format.finer(up))
    return means.reshape(rows.narrow)


def _means_cost(rows: Rows, up: int) -> Cost:
    return resolve_cost(rows.number, mean_factor(rows.count, up)[0] - up, RESTING.bits, Replicated)


F = TypeVar("F", bound=Form)


def _times_count(x: F, rows: Rows) -> F:
    """n x - sum(x), exact, read as u."""
    less = x.times_integers(rows.count) - x.sum(rows.axes, keepdims=True)
    return less.with_fraction(x.fraction + rows.divided)


@dataclass
class Normalised:
    """The result, and for each row its mean and the reciprocal of the deviation of u. These two are None
    where they did not become Replicated."""

    value: Replicated
    mean: Replicated | None
    root: Replicated | None


def normalised(
    party: Party,
    x: Shares,
    rows: Rows,
    scale: Resolved | None,
    bias: Resolved | None,
    reals: Format = RESTING,
    made: Format = RESTING,
) -> Protocol[Normalised]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, both broadcasting, in the format `made`.

    The truncation of an untruncated x centres it (`Centring.TERMS`), or leads to `reals`.
    """
    mean: Replicated | None = None
    if rows.centring is Centring.TERMS:
        x = _times_count(x, rows)
    if isinstance(x, Sum3):
        x = yield from truncated(party, x, reals)
    read = replicated(x)
    between = read.format.at(rows.product_fraction)
    if rows.centring is Centring.MEAN:
        # less its first element, a constant row is zero and a large mean costs no precision
        start = (slice(None),) * rows.axis + (slice(0, 1),) * len(rows.axes)
        first = read[start]
        read = read - first
        mean = yield from _means(party, read, rows, 0)
        read, mean = read - mean, mean + first

    def fine() -> Protocol[Replicated]:
        """The centred rows, without the part of their mean that the first subtraction missed."""
        if rows.centring is Centring.EXACT:
            return _times_count(read, rows)
        up = rows.centred_up
        if not up:
            return read
        return read.aligned(read.fraction + up) - (yield from _means(party, read, rows, up))

    def scaled() -> Protocol[Replicated]:
        if isinstance(scale, Replicated):  # at no more fraction bits than there is room for
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

    if rows.wider:
        steps: list[Protocol[Any]] = [roots_at_twins(party, read, rows), scaled()]
        factors, product = yield from parallel(steps)
        return Normalised((yield from _times_roots(party, product, factors, rows, made)), mean, None)
    root, product = yield from parallel([roots(party, read, rows), fine() if rows.root_first else scaled()])
    root = root.reshape(rows.narrow)
    y = multiply(party, product, root)
    if rows.root_first:
        y = multiply(party, (yield from truncated(party, y, between)), replicated(scale))
    if isinstance(bias, np.ndarray):
        y = y.plus_numbers(bias)
    elif bias is not None:
        y = y.plus_shared(bias)
    return Normalised((yield from truncated(party, y, made)), mean, root)


def _times_roots(
    party: Party, x: Replicated, factors: Sequence[LongPair], rows: Rows, made: Format
) -> Protocol[Replicated]:
    """x times the root of each row."""
    flat, fraction = x.reshape(rows.number, rows.count), rows.root_fraction
    found = yield from parallel(
        times_factors(party, flat[piece], factor, fraction, made)
        for piece, factor in zip(parts_of(rows), factors, strict=True)
    )
    return joined(found).reshape(rows.shape)


def beside_roots(rows: Rows, call: Use, made: Format) -> Rows | None:
    """The same rows, multiplied by their roots before these are Replicated. None where that cannot be: a bias
    joins a product before its truncation, and a mean or a root that is an output is Replicated."""
    more = call.operand(2) is not None or any(call.node.outputs[1:])
    if rows.root_first or more or call.ring < RESTING.bits:
        return None
    wide = made.bits + _held(rows, call) + rows.root_fraction - made.fraction
    found = replace(rows, wider=wide - call.ring)
    if found.wider <= 0 or rows.way is Way.NARROW:
        return None
    try:
        roots_at_twins_cost(found)
    except ProtocolError:  # no ring is that wide
        return None
    return found


def _held(rows: Rows, call: Use) -> int:
    """Fraction bits of x times the scale."""
    scale = call.given(1)
    by = rows.scale_fraction if scale.secret else _public_factor(rows, np.asarray(scale.value))[0]
    return min(call.reals.fraction + rows.centred_up + by, rows.product_fraction)


def _public_factor(rows: Rows, scale: np.ndarray) -> tuple[int, np.ndarray]:
    """(fraction bits, integers) of a public scale, at no more bits than there is room for."""
    fraction, integers = public_scale(scale)
    if fraction <= rows.scale_fraction:
        return fraction, integers
    return rows.scale_fraction, np.rint(scale.astype(np.float64) * 2.0**rows.scale_fraction).astype(np.int64)


def read_cost(rows: Rows, call: Use) -> Cost:
    """Of the truncation of a product that arrives untruncated."""
    x, divided = call.given(0), rows.divided if rows.centring is Centring.TERMS else 0
    shift = x.fraction - x.finer + divided - call.reals.fraction
    return shift_cost(x.size, shift, x.format.bits, bits=call.ring)


def normalised_cost(rows: Rows, call: Use, made: int | None = None) -> Cost:
    """made: bits of the result's ring, where it is another than that of its operands."""
    size, fraction = rows.number * rows.count, call.reals.fraction + rows.centred_up
    scale, form = call.given(1), (Sum3 if call.secret(1) else Replicated)
    total, before = Cost(), Cost()
    if rows.centring is Centring.TERMS:
        total = read_cost(rows, call)
    if rows.centring is Centring.MEAN:
        total = _means_cost(rows, 0)
        before = _means_cost(rows, rows.centred_up) if rows.centred_up else before
    if rows.root_first:
        first = fraction + rows.root_fraction - rows.product_fraction
        total = total + (roots_cost(rows) | before) + shift_cost(size, first, call.ring)
        return total + shift_cost(size, rows.product_fraction, call.ring, bits=made)
    by = rows.scale_fraction if scale.secret else _public_factor(rows, np.asarray(scale.value))[0]
    if scale.secret and by < call.reals.fraction:
        before |= shift_cost(scale.size, call.reals.fraction - by, call.ring, Replicated)
    held = _held(rows, call)
    product = Cost()
    if fraction + by > held:
        product = shift_cost(size, fraction + by - held, call.ring, form)
    if rows.wider:
        wide = call.ring + rows.wider
        bits = call.ring if made is None else made

        def product_cost(number: int) -> Cost:
            return times_factors_cost(number, rows.count, call.ring, wide, bits)

        total = total + (roots_at_twins_cost(rows) | (before + product))
        return total + over_parts(rows.number, product_cost, FEW_ROWS)
    total = total + (roots_cost(rows) | (before + product))
    return total + shift_cost(size, held + rows.root_fraction - call.reals.fraction, call.ring, bits=made)
