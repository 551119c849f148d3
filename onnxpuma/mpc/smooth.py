"""Smooth activations over the whole range: a Fourier window inside, straight lines outside.

y = left + [inside] (W(x) - left) + [above] (slope x + right - left) (protocols.md, section 6). The two bits
come from one circuit on a coarse reading; each gates a value that the same pivot and twins hold, after the
series and not before it: gating costs 2k bits a value, gating every dealt cosine would double them all.
"""

from __future__ import annotations

import math
from typing import Any

from onnxpuma.mpc.compare import locate, locate_cost
from onnxpuma.mpc.convert import pass_on, pass_on_cost, replicate_pair, replicate_pair_cost, split, split_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.gate import arithmetic, arithmetic_cost, gate, gate_cost
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.separable import Series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.shares import Replicated, Sum3, see
from onnxpuma.mpc.truncate import lift, lift_cost
from onnxpuma.mpc.words import Words, from_integers

READ_FRACTION = 14  # of the tails
READ_BITS = 28  # |x| < 2^12 and room for the lift
ANGLE_BITS = 16  # resolution of the series' argument
SERIES_FRACTION = 13  # of a twin's factors, and of a dealt cosine of amplitude one
EDGE_BITS = 12  # of the coarse reading


def activation(
    party: Party, x: Replicated | Sum3, series: Series, pivot: int, fraction: int = 18, bits: int = 64
) -> Protocol[Replicated]:
    """The activation of `series` at every element, Replicated with `fraction` bits in Z_2^bits.

    |x| < 2^11 * unit of the series (GELU: 1024). Error: the fit's, about 2^-11 from the argument's and the
    cosines' rounding, and the tail's own at the window's edge; figures in docs/protocols.md.
    Rounds: 5; bits: `activation_cost`. A product (Sum3) is read at 28 bits: it never becomes Replicated.
    """
    seen = split(party, x, pivot, READ_FRACTION, READ_BITS)
    unit_shift = READ_FRACTION + int(math.log2(series.unit))
    half = 0 if series.width % 2 else 1 << (unit_shift - 1)
    offset = (series.width // 2 << unit_shift) - half
    edges = seen.plus(from_integers(offset, READ_BITS)).lowered(unit_shift, EDGE_BITS)
    angle_shift = READ_FRACTION + series.period_bits - ANGLE_BITS
    angle = seen.lowered(angle_shift, ANGLE_BITS)

    def inside_window() -> Protocol[Replicated]:
        pair = yield from evaluate_series(party, series, angle, SERIES_FRACTION, series_bits(series))
        return replicate_pair(party, pair.lowered(pair.fraction - READ_FRACTION).plus(constant(-series.left)))

    both: list[Protocol[Any]] = [locate(party, edges, series.width), inside_window()]
    (inside, above), inner = yield from parallel(both)
    gates = [gate(party, inside, see(party, inner, pivot))]
    if series.slope:
        gates.append(gate(party, above, seen))
    if series.right != series.left:
        gates.append(arithmetic(party, above, READ_BITS))
    pairs = yield from parallel(gates)
    total = pairs[0].plus(constant(series.left))
    if series.slope:
        total = total + pairs[1]
    if series.right != series.left:
        total = total + pairs[-1].times(constant(series.right - series.left), READ_FRACTION)
    raised = fraction - READ_FRACTION
    return (yield from lift(party, pass_on(party, total), bits - raised)).raised(raised)


def activation_cost(
    series: Series, elements: int, bits: int = 64, fraction: int = 18, form: type = Sum3
) -> Cost:
    gates = gate_cost(elements, READ_BITS)
    if series.slope:
        gates |= gate_cost(elements, READ_BITS, halves=form is Replicated)
    if series.right != series.left:
        gates |= arithmetic_cost(elements, READ_BITS)
    window = series_cost(series, elements, SERIES_FRACTION, series_bits(series)) + replicate_pair_cost(
        elements, READ_BITS
    )
    bits_and_window = locate_cost(elements, EDGE_BITS, series.width) | window
    read = split_cost(elements, READ_BITS, form)
    back = lift_cost(elements, READ_BITS, bits - (fraction - READ_FRACTION)) | pass_on_cost(
        elements, READ_BITS
    )
    return (bits_and_window | Cost(1, read.bits)) + gates + back


def series_bits(series: Series) -> int:
    """The ring of the series: after the shift to READ_FRACTION, READ_BITS are left."""
    return result_fraction(series, SERIES_FRACTION) - READ_FRACTION + READ_BITS


def constant(value: float) -> Words:
    """A public number at the scale of the gated values."""
    return from_integers(round(value * (1 << READ_FRACTION)), READ_BITS)
