"""The largest of a row, and where it stands: tournaments of exact comparisons.

Neighbours play at each of log2(n) levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import WHOLE
from onnxpuma.mpc.forms import Pair, Replicated, see, zeros
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.by_twos import with_last
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.pivots import over_parts, spread_all
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.ops.comparison import WIDE
from onnxpuma.ops.select import positive, positive_cost


def row_largest(party: Party, rows: Replicated, bits: int = WIDE) -> Protocol[Replicated]:
    """The largest of each row, (rows, n) -> (rows,)."""
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        left, right = _neighbours(rows, half)
        won = yield from positive(party, left - right, bits)
        rows = with_last(won + right, rows)
    return rows[:, 0]


def row_largest_cost(rows: int, length: int, bits: int = WIDE) -> Cost:
    total = Cost()
    while length > 1:
        total = total + positive_cost(rows * (length // 2), bits)
        length -= length // 2
    return total


def as_rows(x: Replicated, axes: tuple[int, ...], count: int) -> Replicated:
    """The reduced axes last and flat: (rows, count)."""
    kept = [a for a in range(len(x.shape)) if a not in axes]
    return x.transpose(*kept, *axes).contiguous(-1, count)


def _duel(
    party: Party, lead: Replicated, places: Replicated, pivot: int, first_wins: bool, bits: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """max(lead, 0), and the places if the left one wins, else 0; the left one wins a tie if `first_wins`."""
    seen, where = see(party, lead.modulo(bits), pivot), see(party, places.modulo(bits), pivot)
    if first_wins:
        bit = ~(yield from wide_negative(party, seen))
    else:
        bit = yield from wide_negative(party, see(party, (-lead).modulo(bits), pivot))
    pairs: list[Pair] = yield from parallel([gate(party, bit, seen), gate(party, bit, where)])
    both = yield from parallel(lift_pair(party, pair, lead.bits) for pair in pairs)
    return both[0], both[1]


def _duel_cost(elements: int, bits: int) -> Cost:
    back = lift_pair_cost(elements, bits, WIDE)
    prize = gate_cost(elements, bits) + back
    return wide_negative_cost(elements, bits) + (prize | prize)


def duels(
    party: Party, lead: Replicated, places: Replicated, first_wins: bool, bits: int = WIDE
) -> Protocol[tuple[Replicated, Replicated]]:
    """`_duel` over the three pivots, any shape."""

    def each(parts: Sequence[Replicated], pivot: int) -> Protocol[Sequence[Replicated]]:
        return _duel(party, parts[0], parts[1], pivot, first_wins, bits)

    larger, place = yield from spread_all(party, [lead, places], each)
    return larger, place


def duels_cost(elements: int, bits: int = WIDE) -> Cost:
    return over_parts(elements, lambda n: _duel_cost(n, bits))


def places_cost(rows: int, length: int) -> Cost:
    total = Cost()
    while length > 1:
        total = total + duels_cost(rows * (length // 2))
        length -= length // 2
    return total


def row_places(
    party: Party, values: Replicated, numbers: np.ndarray, first_wins: bool
) -> Protocol[tuple[Replicated, Replicated]]:
    """The largest of each row of (rows, n), and the number that stands at its place."""
    places = zeros(party.index, values.shape, WHOLE).plus_numbers(numbers)
    while values.shape[1] > 1:  # neighbours play, so the left one is always the earlier one
        half = values.shape[1] // 2
        (a, b), (i, j) = _neighbours(values, half), _neighbours(places, half)
        won, shift = yield from duels(party, a - b, i - j, first_wins)
        values = with_last(won + b, values)
        places = with_last(shift + j, places)
    return values[:, 0], places[:, 0]


def _neighbours(x: Replicated, count: int) -> tuple[Replicated, Replicated]:
    """The first and the second element of each of `count` pairs of a row."""
    return x[:, 0 : 2 * count : 2], x[:, 1 : 2 * count : 2]
