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
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.protocols.exp_softmax import FRACTION as EXP_FRACTION
from onnxpuma.mpc.protocols.exp_softmax import NARROW, POWER, exp_window, exp_window_cost
from onnxpuma.mpc.protocols.maximum import row_maximum, row_maximum_cost
from onnxpuma.mpc.protocols.pivots import FEW_ROWS, each_led, over_parts, runs, spread_all
from onnxpuma.mpc.protocols.reciprocal import digits_of, inverse_cost, reciprocal
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.ops.scores import LOWEST, SPREAD

FINE = 15  # fraction bits of the score that exp reads
COARSE = 0  # fraction bits of the reading for the maximum: units
NUMERATOR = 22  # fraction bits of the numerators


LEAST_READ = 20  # the least `sum_read`


def sum_read(ring: int) -> int:
    """Fraction bits of the reciprocal of a row's sum: times a numerator, it leaves 4 bits above the point."""
    return min(24, ring - 4 - NUMERATOR)


def coarse_bits(spread: float) -> int:
    """Bits of the coarse reading, for the maximum of scores less than `spread` apart."""
    return max(7, math.ceil(math.log2(spread)) + COARSE + 1)


def _digit_bits(spread: float) -> int:
    """Bits of the digits of a score less its maximum, which may be two units further below."""
    return NARROW.digit_bits(spread + 2)


def farthest_apart(spread: float) -> float:
    """The largest distance that a reading for this spread covers: each score is off by about a unit."""
    least = NARROW.top * ((1 << _digit_bits(spread)) - 1)
    return min(2.0 ** (coarse_bits(spread) - COARSE - 1) - 2, least - 3)


def numerators(
    party: Party, x: Shares, lengths: np.ndarray, pivot: int, bits: int, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """e^(x - m - 1) of rows laid end to end, (n,), at NUMERATOR fraction bits mod 2^bits, and m of each row,
    (rows,).

    m is within a unit of the row's maximum and has COARSE fraction bits mod 2^coarse_bits. A score more than
    LOWEST below m may count as zero. Two scores of one row differ by less than `spread`. Error: below 2^-17.
    Rounds: 3 a level of the tournament and 5, or 6 for a wide spread; bits: `numerators_cost`.
    """
    fine = split(party, x, pivot, Format(coarse_bits(spread) + FINE - COARSE, FINE))
    tops = yield from row_maximum(party, fine.lowered(FINE - COARSE), lengths)
    read = FINE + NARROW.unit + _digit_bits(spread)
    top = see(party, tops[np.repeat(np.arange(len(lengths)), lengths)], pivot)
    below = fine.modulo(read) - top.raised(FINE - COARSE, read)
    y = yield from exp_window(party, below.plus_numbers(LOWEST))
    return (yield from _from_pair(party, y, bits)), tops


def _from_pair(party: Party, y: Pair, bits: int) -> Protocol[Replicated]:
    return (yield from lift_pair(party, y.lowered(EXP_FRACTION - NUMERATOR), bits))


def numerators_cost(
    elements: int, lengths: np.ndarray, form: type, ring: int, spread: float = SPREAD
) -> Cost:
    coarse, width = coarse_bits(spread), POWER.bits - EXP_FRACTION + NUMERATOR
    read = split_cost(elements, coarse + FINE - COARSE, form)
    highest = row_maximum_cost(elements, lengths, coarse)
    exp = exp_window_cost(elements, _digit_bits(spread)).merged()
    return Cost(0, read.bits) + highest + exp + lift_pair_cost(elements, width, ring)


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
