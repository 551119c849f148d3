"""The numerators of a softmax, and the reciprocals of their sums: rows of any length, laid end to end.

A numerator is e^(t - 1), with t the score less the row's coarse maximum, so a row's sum lies between e^-2 and
its length (docs/protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Pair, Replicated, Shares, joined, see
from onnxpuma.mpc.party import Party, Protocol, parallel
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
from onnxpuma.mpc.protocols.exp_softmax import exp_window, exp_window_cost, floor_constant
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.maximum import row_maximum, row_maximum_cost
from onnxpuma.mpc.protocols.reciprocal import digits_of, inverse_cost, reciprocal
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.ops.scores import LOWEST, SPREAD
from onnxpuma.ops.spread import FEW_ROWS, SMALLEST_SPREAD, over_parts, spread_all

FINE = 15  # fraction bits of the score that exp reads; 32 units <-> 2^20
EXP_BITS = 20
COARSE = 1  # fraction bits of the reading for the maximum: halves
NUMERATOR = 22  # fraction bits of the numerators
SUM_READ = 24  # fraction bits of the reciprocal of a row's sum


def coarse_bits(spread: float) -> int:
    """Bits of the reading for the maximum and the clipping of scores less than `spread` apart."""
    return max(8, math.ceil(math.log2(spread)) + COARSE + 1)


def _read_bits(spread: float) -> int:
    return coarse_bits(spread) + FINE - COARSE


def numerators(
    party: Party, x: Shares, lengths: np.ndarray, pivot: int, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """e^(x - m - 1) of rows laid end to end, (n,), m within 1/2 of the row's maximum; NUMERATOR bits.

    And m, (rows,), COARSE fraction bits mod 2^coarse_bits. Two scores of one row differ by less than
    `spread`. Error: below 2^-16. Rounds: 3 a level of the tournament and 9; bits: `numerators_cost`.
    """
    fine = split(party, x, pivot, Format(_read_bits(spread), FINE))
    coarse = fine.lowered(FINE - COARSE)
    tops = yield from row_maximum(party, coarse, lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    top = see(party, tops[row], pivot)
    # one unit of the coarse reading may be lost on each side, hence two units of margin at the lower end
    margin = (LOWEST << COARSE) - 2
    below = yield from is_negative(party, (coarse - top).plus_numbers(margin * 2.0**-COARSE))
    shifted = fine.modulo(EXP_BITS) - top.raised(FINE - COARSE, EXP_BITS)
    pair = yield from gate(party, ~below, shifted.plus_numbers(LOWEST))
    inside = replicate_pair(party, pair)
    y = yield from exp_window(party, see(party, inside, pivot))
    y = y.plus(-floor_constant())
    return (yield from _from_pair(party, y)), tops


def _from_pair(party: Party, y: Pair) -> Protocol[Replicated]:
    return (yield from lift(party, pass_on(party, y.lowered(EXP_FRACTION - NUMERATOR)), 64))


def numerators_cost(elements: int, lengths: np.ndarray, form: type, spread: float = SPREAD) -> Cost:
    read, coarse = split_cost(elements, _read_bits(spread), form), coarse_bits(spread)
    width = 64 - EXP_FRACTION + NUMERATOR
    highest = row_maximum_cost(elements, lengths, coarse)
    clip = is_negative_cost(elements, coarse).merged() + gate_cost(elements, EXP_BITS, halves=False)
    exp = replicate_pair_cost(elements, EXP_BITS) | exp_window_cost(elements)
    back = pass_on_cost(elements, width) | lift_cost(elements, width, 64)
    return Cost(0, read.bits) + highest + clip + exp + back


def row_parts(lengths: np.ndarray) -> list[tuple[slice, slice]]:
    """(rows, elements) of each part: whole rows, about equally many elements for each pivot."""
    ends = np.cumsum(lengths)
    size = int(ends[-1]) if len(ends) else 0
    if size < SMALLEST_SPREAD or len(lengths) < 3:
        return [(slice(0, len(lengths)), slice(0, size))]
    cuts = [0, *(int(np.searchsorted(ends, size * i / 3, side="left")) + 1 for i in (1, 2)), len(lengths)]
    cuts = [min(c, len(lengths)) for c in cuts]
    edges = [0, *(int(ends[c - 1]) for c in cuts[1:])]
    pieces = [(slice(cuts[i], cuts[i + 1]), slice(edges[i], edges[i + 1])) for i in range(3)]
    return [(rows, elements) for rows, elements in pieces if elements.stop > elements.start]


def all_numerators(
    party: Party, flat: Shares, lengths: np.ndarray, spread: float = SPREAD
) -> Protocol[Replicated]:
    """The first of `all_peaks`."""
    return (yield from all_peaks(party, flat, lengths, spread))[0]


def all_peaks(
    party: Party, flat: Shares, lengths: np.ndarray, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """`numerators` with the rows spread over the three pivots."""
    pieces = row_parts(lengths)
    if len(pieces) == 1:
        return (yield from numerators(party, flat, lengths, party.next_pivot(), spread))
    done = yield from parallel(
        numerators(party, flat[elements], lengths[rows], pivot, spread)
        for pivot, (rows, elements) in enumerate(pieces)
    )
    return joined([e for e, _ in done]), joined([m for _, m in done])


def all_numerators_cost(lengths: np.ndarray, form: type, spread: float = SPREAD) -> Cost:
    total = Cost()
    for rows, elements in row_parts(lengths):
        total |= numerators_cost(elements.stop - elements.start, lengths[rows], form, spread)
    return total


def row_reciprocals(party: Party, sums: Replicated, longest: int) -> Protocol[Replicated]:
    """1 / sum of each row, (rows,), SUM_READ fraction bits."""
    digits = digits_of(0.13, float(longest), RESTING.at(NUMERATOR))

    def each(parts: Sequence[Replicated], pivot: int) -> Protocol[list[Replicated]]:
        return [(yield from reciprocal(party, parts[0], pivot, sums.format.at(SUM_READ), digits))]

    (inverse,) = yield from spread_all(party, [sums], each, FEW_ROWS)
    return inverse


def row_reciprocals_cost(count: int, longest: int) -> Cost:
    digits = digits_of(0.13, float(longest), RESTING.at(NUMERATOR))

    def each(size: int) -> Cost:
        return inverse_cost("reciprocal", size, digits, NUMERATOR, RESTING.at(SUM_READ), form=Replicated)

    return over_parts(count, each, FEW_ROWS)
