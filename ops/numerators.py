"""The numerators of a softmax, and the reciprocals of their sums, for rows of any length laid end to end.

A numerator is e^(t - 1), with t the score less the row's coarse maximum, so a row's sum lies between e^-2 and
its length (docs/protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Shares, joined, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import is_negative, is_negative_cost
from onnxpuma.mpc.protocols.convert import (
    pass_on,
    pass_on_cost,
    replicate_pair,
    replicate_pair_cost,
    split,
    split_cost,
)
from onnxpuma.mpc.protocols.exp_softmax import FRACTION as EXP_FRACTION
from onnxpuma.mpc.protocols.exp_softmax import POWER, exp_window, exp_window_cost, floor_constant
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.maximum import row_maximum, row_maximum_cost
from onnxpuma.mpc.protocols.pivots import FEW_ROWS, each_led, over_parts, runs, spread_all
from onnxpuma.mpc.protocols.reciprocal import digits_of, inverse_cost, reciprocal
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.ops.scores import LOWEST, SPREAD

FINE = 15  # fraction bits of the score that exp reads; a score of 32 is 2^20
EXP_BITS = 20
COARSE = 1  # fraction bits of the reading for the maximum: halves
NUMERATOR = 22  # fraction bits of the numerators


LEAST_READ = 20  # the least `sum_read`


def sum_read(ring: int) -> int:
    """Fraction bits of the reciprocal of a row's sum: times a numerator, it leaves 4 bits above the point."""
    return min(24, ring - 4 - NUMERATOR)


def coarse_bits(spread: float) -> int:
    """Bits of the coarse reading, for the maximum and the clipping of scores less than `spread` apart."""
    return max(8, math.ceil(math.log2(spread)) + COARSE + 1)


def _read_bits(spread: float) -> int:
    return coarse_bits(spread) + FINE - COARSE


def numerators(
    party: Party, x: Shares, lengths: np.ndarray, pivot: int, bits: int, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """e^(x - m - 1) of rows laid end to end, (n,), at NUMERATOR fraction bits mod 2^bits, and m of each row,
    (rows,).

    m is within 1/2 of the row's maximum and has COARSE fraction bits mod 2^coarse_bits. Two scores of one row
    differ by less than `spread`. Error: below 2^-16. Rounds: 3 a level of the tournament and 9; bits:
    `numerators_cost`.
    """
    fine = split(party, x, pivot, Format(_read_bits(spread), FINE))
    coarse = fine.lowered(FINE - COARSE)
    tops = yield from row_maximum(party, coarse, lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    top = see(party, tops[row], pivot)
    # the coarse reading may lose a unit on each side, hence a margin of two units at the lower end
    margin = (LOWEST << COARSE) - 2
    below = yield from is_negative(party, (coarse - top).plus_numbers(margin * 2.0**-COARSE))
    shifted = fine.modulo(EXP_BITS) - top.raised(FINE - COARSE, EXP_BITS)
    pair = yield from gate(party, ~below, shifted.plus_numbers(LOWEST))
    inside = replicate_pair(party, pair)
    y = yield from exp_window(party, see(party, inside, pivot))
    y = y.plus(-floor_constant())
    return (yield from _from_pair(party, y, bits)), tops


def _from_pair(party: Party, y: Pair, bits: int) -> Protocol[Replicated]:
    return (yield from lift(party, pass_on(party, y.lowered(EXP_FRACTION - NUMERATOR)), bits))


def numerators_cost(
    elements: int, lengths: np.ndarray, form: type, ring: int, spread: float = SPREAD
) -> Cost:
    read, coarse = split_cost(elements, _read_bits(spread), form), coarse_bits(spread)
    width = POWER.bits - EXP_FRACTION + NUMERATOR
    highest = row_maximum_cost(elements, lengths, coarse)
    clip = is_negative_cost(elements, coarse).merged() + gate_cost(elements, EXP_BITS, halves=False)
    exp = replicate_pair_cost(elements, EXP_BITS) | exp_window_cost(elements)
    back = pass_on_cost(elements, width) | lift_cost(elements, width, ring)
    return Cost(0, read.bits) + highest + clip + exp + back


def all_numerators(
    party: Party, flat: Shares, lengths: np.ndarray, bits: int, spread: float = SPREAD
) -> Protocol[Replicated]:
    """The first result of `all_peaks`."""
    return (yield from all_peaks(party, flat, lengths, bits, spread))[0]


def all_peaks(
    party: Party, flat: Shares, lengths: np.ndarray, bits: int, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """`numerators` with the rows spread over the three pivots."""

    def each(piece: tuple[slice, slice], pivot: int) -> Protocol[tuple[Replicated, Replicated]]:
        rows, elements = piece
        return numerators(party, flat[elements], lengths[rows], pivot, bits, spread)

    done = yield from each_led(party, runs(lengths), each)
    return joined([e for e, _ in done]), joined([m for _, m in done])


def all_numerators_cost(lengths: np.ndarray, form: type, ring: int, spread: float = SPREAD) -> Cost:
    total = Cost()
    for rows, elements in runs(lengths):
        total |= numerators_cost(elements.stop - elements.start, lengths[rows], form, ring, spread)
    return total


def row_reciprocals(party: Party, sums: Replicated, longest: int) -> Protocol[Replicated]:
    """1 / sum of each row, (rows,), `sum_read` fraction bits."""
    digits, made = digits_of(0.13, float(longest), sums.format), sums.format.at(sum_read(sums.bits))

    def each(parts: Sequence[Replicated], pivot: int) -> Protocol[list[Replicated]]:
        return [(yield from reciprocal(party, parts[0], pivot, made, digits))]

    (inverse,) = yield from spread_all(party, [sums], each, FEW_ROWS)
    return inverse


def row_reciprocals_cost(count: int, longest: int, ring: int) -> Cost:
    digits, made = digits_of(0.13, float(longest), Format(ring, NUMERATOR)), Format(ring, sum_read(ring))

    def each(size: int) -> Cost:
        return inverse_cost("reciprocal", size, digits, NUMERATOR, made, form=Replicated)

    return over_parts(count, each, FEW_ROWS)
