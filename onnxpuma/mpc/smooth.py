"""Smooth activations over the whole range: a Fourier window inside, straight lines outside.

y = left + [inside] (x/2 + W(x) - left) + [above] (slope x + right - left), with x/2 where the lines' slopes
differ (docs/protocols.md, "Activations"). The two bits come from one circuit on a coarse reading; each gates
a value that the same pivot and twins hold, after the series and not before it: gating costs 2k bits a value,
gating every dealt cosine would double them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.compare import locate, locate_cost
from onnxpuma.mpc.convert import (
    deal_cost,
    deal_halves,
    pass_on,
    pass_on_cost,
    replicate_pair,
    replicate_pair_cost,
    split,
    split_cost,
)
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.gate import arithmetic, arithmetic_cost, gate, gate_cost
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.separable import Series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.shares import Replicated, Split, Sum3, see
from onnxpuma.mpc.truncate import lift, lift_cost
from onnxpuma.mpc.words import Words, from_integers

READ_FRACTION = 14
READ_BITS = 28  # |x| < 2^12 and room for the lift; `reach` more, or fewer
EDGE_BITS = 12  # of the coarse reading


@dataclass(frozen=True)
class _Scales:
    """Scale and ring of the gated values: one bit more of both where x/2 is among them, then exact."""

    fraction: int
    bits: int

    @classmethod
    def of(cls, series: Series, reach: int) -> _Scales:
        more = 1 if series.linear else 0
        if series.linear not in (0, 0.5):
            raise ProtocolError(f"{series.name} with {series.linear} x", "half of x, or nothing")
        return cls(READ_FRACTION + more, READ_BITS + reach + more)


def largest_argument(series: Series, reach: int = 0) -> float:
    """|x| must be below it: for the place on the coarse reading, and for the lift."""
    coarse = ((1 << (EDGE_BITS + reach - 1)) - series.width) * float(series.unit)
    return min(coarse, 2.0 ** (READ_BITS + reach - 2 - READ_FRACTION))


def fits(fraction: int, reach: int) -> bool:
    """Whether words of `fraction` fraction bits mod 2^64 have as many bits as are read."""
    return READ_BITS + reach + 1 <= 64 - max(fraction - READ_FRACTION, 0)


def reach_for(series: Series, argument: float) -> int:
    """The smallest reach that takes |x| < argument; an edge is read with six bits at least."""
    return next(r for r in range(6 - EDGE_BITS, 64) if largest_argument(series, r) >= argument)


def activation(
    party: Party,
    x: Replicated | Sum3,
    series: Series,
    pivot: int,
    fraction: int = 18,
    bits: int = 64,
    reach: int = 0,
) -> Protocol[Replicated]:
    """The activation of `series` at every element, Replicated with `fraction` bits in Z_2^bits.

    |x| < `largest_argument` (GELU: 1016 at reach 0; a reach of one doubles it). Error: the fit's, about
    2^-12 from the argument's and the cosines' rounding, and the tail's own at the window's edge; figures in
    docs/protocols.md. Rounds: 5; bits: `activation_cost`. A product (Sum3) is read at 28 bits and `reach`
    more: it never becomes Replicated.
    """
    scales = _Scales.of(series, reach)
    # 1. x as Split, at three scales: for the lines, for the coarse place, for the angle
    seen = split(party, x, pivot, READ_FRACTION, scales.bits)
    if series.slope and seen.halves is None:
        seen = deal_halves(party, seen)
    both: list[Protocol[Any]] = [
        locate(party, _place(seen, series, EDGE_BITS + reach), series.width),
        _inside(party, seen, series, scales, reach),
    ]
    # 2. where x lies, and the value inside the window
    (inside, above), inner = yield from parallel(both)
    # 3. each bit gates its value
    gates = [gate(party, inside, inner)]
    if series.slope:
        gates.append(gate(party, above, seen))
    if series.right != series.left:
        gates.append(arithmetic(party, above, scales.bits))
    pairs = yield from parallel(gates)
    total = pairs[0].plus(_constant(series.left, scales))
    if series.slope:
        up = scales.fraction - READ_FRACTION
        total = total + pairs[1].times(from_integers(round(series.slope) << up, scales.bits), up)
    if series.right != series.left:
        step = _constant(series.right - series.left, scales)
        total = total + pairs[-1].times(step, scales.fraction)
    # 4. back to the full ring
    total = total.lowered(max(0, scales.fraction - fraction))
    raised = fraction - total.fraction
    return (yield from lift(party, pass_on(party, total), bits - raised)).raised(raised)


def _place(seen: Split, series: Series, bits: int) -> Split:
    """x in units from the left end of the window."""
    shift = READ_FRACTION + int(math.log2(series.unit))
    half = 0 if series.width % 2 else 1 << (shift - 1)
    offset = (series.width // 2 << shift) - half
    return seen.plus(from_integers(offset, seen.bits)).lowered(shift, bits)


def _inside(party: Party, seen: Split, series: Series, scales: _Scales, reach: int) -> Protocol[Split]:
    """linear x + W(x) - left, seen from the same pivot."""
    faster, steps = series.speed
    shift = READ_FRACTION + series.period_bits + steps.bit_length() - 1 - series.angle_bits
    angle = seen.times(from_integers(faster, seen.bits)) if faster > 1 else seen
    angle = angle.lowered(shift, series.angle_bits)
    pair = yield from evaluate_series(party, series, angle, series.precision, series_bits(series, reach))
    pair = pair.lowered(pair.fraction - scales.fraction).plus(_constant(-series.left, scales))
    inner = see(party, replicate_pair(party, pair), angle.pivot)
    return inner + seen.with_fraction(scales.fraction) if series.linear else inner


def activation_cost(
    series: Series, elements: int, bits: int = 64, fraction: int = 18, form: type = Sum3, reach: int = 0
) -> Cost:
    scales = _Scales.of(series, reach)
    k, made = scales.bits - max(0, scales.fraction - fraction), min(scales.fraction, fraction)
    read = split_cost(elements, scales.bits, form).bits
    gates = gate_cost(elements, scales.bits)
    if series.slope:
        gates |= gate_cost(elements, scales.bits)
        read += 0 if form is Replicated else deal_cost(elements, scales.bits).bits
    if series.right != series.left:
        gates |= arithmetic_cost(elements, scales.bits)
    window = series_cost(series, elements, series.precision, series_bits(series, reach))
    window = window + replicate_pair_cost(elements, scales.bits)
    both = locate_cost(elements, EDGE_BITS + reach) | window | Cost(1, read)
    return both + gates + (lift_cost(elements, k, bits - fraction + made) | pass_on_cost(elements, k))


def series_bits(series: Series, reach: int = 0) -> int:
    """The ring of the series: after the shift to the gated values' scale their ring is left."""
    scales = _Scales.of(series, reach)
    return result_fraction(series, series.precision) - scales.fraction + scales.bits


def _constant(value: float, scales: _Scales) -> Words:
    """A public number at the scale of the gated values."""
    return from_integers(round(value * (1 << scales.fraction)), scales.bits)
