"""The place of the largest element of each row, by a tournament of exact comparisons.

By twos (by_twos.py): the place is the path of the winner. By fours (fours.py): fewer rounds, more bits, and
the place is a word beside the value. A long row may begin by twos, as most of its comparisons are in the
first levels, and end by fours.
"""

from __future__ import annotations

from enum import Enum

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import WHOLE
from onnxpuma.mpc.forms import Replicated, joined, see, stacked, zeros
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.by_twos import (
    by_twos,
    ends_of,
    ends_of_cost,
    every_other,
    levels_of,
    tournament,
    tournament_cost,
    with_last,
)
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle
from onnxpuma.mpc.protocols.fours import (
    GROUP,
    grouped,
    grouped_words,
    largest_of_four,
    largest_of_four_cost,
)
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.pivots import blocks, each_led
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring import arrays
from onnxpuma.mpc.ring.arrays import filled, indices
from onnxpuma.mpc.ring.words import Words, from_integers

PLACE_BITS = WHOLE.bits
FEW = 1024  # elements of a part of a row from which Way.MIXED goes on by fours


class Way(Enum):
    """How many elements play at once."""

    TWOS = "by twos"
    FOURS = "by fours"
    MIXED = "by twos, then by fours"

    def until(self, length: int) -> int:
        """The elements of a row from which it is played by fours."""
        return FEW if self is Way.MIXED else length


def _block(party: Party, x: Replicated, pivot: int, start: int) -> Protocol[tuple[Replicated, Replicated]]:
    """The largest of each row and its place, counted from `start`; both have arrived."""
    values, paths = yield from tournament(party, x, pivot)
    if not paths:
        return values, zeros(party.index, values.shape, WHOLE).plus_numbers(start)
    first = filled(values.shape, start, PLACE_BITS)
    return values, (yield from settle(party, (yield from ends_of(party, paths, first, PLACE_BITS))))


def _block_cost(rows: int, length: int, bits: int) -> Cost:
    if length == 1:
        return FREE
    levels, _ = levels_of(length, 1)
    return tournament_cost(rows, length, bits) + ends_of_cost(rows, levels, PLACE_BITS)


def _final(party: Party, values: Replicated, places: Replicated, pivot: int) -> Protocol[Replicated]:
    """The place that belongs to the largest of a few: (rows, n) both."""
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        sides = []
        for x in (values, places):
            seen = see(party, x, pivot)
            sides.append((seen[every_other(0, half)], seen[every_other(1, half)]))
        leads = [left - right for left, right in sides]
        loses = yield from wide_negative(party, leads[0])
        pairs = yield from parallel([gate(party, ~loses, lead) for lead in leads])
        won = [
            replicate_pair(party, pair.plus_split(right))
            for pair, (_, right) in zip(pairs, sides, strict=True)
        ]
        values, places = with_last(won[0], values), with_last(won[1], places)
    found = yield from settle(party, places)
    return found[:, 0]


def _final_cost(rows: int, length: int, bits: int) -> Cost:
    total = FREE
    while length > 1:
        n = rows * (length // 2)
        gates = gate_cost(n, bits) | gate_cost(n, PLACE_BITS)
        back = replicate_pair_cost(n, bits) | replicate_pair_cost(n, PLACE_BITS)
        played = wide_negative_cost(n, bits) + gates + back
        total = total + (played.merged() if total.rounds else played)
        length -= length // 2
    return total


def _place_bits(length: int) -> int:
    """Bits of a place in a row of this length, with room for the lift."""
    return (length - 1).bit_length() + 2


def _by_fours(
    party: Party, x: Replicated, places: Replicated | Words, pivot: int, bits: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """The largest of each row of x, (rows, n), and the number of `places` mod 2^bits that stands there; a row
    has at least two elements."""
    while x.shape[1] > 1:
        numbers = grouped(places) if isinstance(places, Replicated) else grouped_words(places)
        x, places = yield from largest_of_four(party, grouped(x), numbers, pivot, bits)
    assert isinstance(places, Replicated)
    return (yield from settle(party, x))[:, 0], places[:, 0]


def _by_fours_cost(rows: int, length: int, bits: int, place_bits: int, public: bool) -> Cost:
    """public: the places are."""
    total = FREE
    while length > 1:
        length = -(-length // GROUP)
        played = largest_of_four_cost(rows * length, bits, place_bits, public)
        total, public = total + (played.merged() if total.rounds else played), False
    return total


def first_by_twos(
    party: Party, x: Replicated, start: int, pivot: int, bits: int, until: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """`_by_fours` of each row of x, whose places count from `start`, after `by_twos`."""
    few, paths = yield from by_twos(party, x, pivot, until)
    first = arrays.zeros(few.shape, bits)
    first += from_integers(start + (indices(few.shape[1]) << len(paths)), bits)
    if not paths:
        return (yield from _by_fours(party, few, first, pivot, bits))
    places = yield from ends_of(party, paths, first, bits)
    return (yield from _by_fours(party, few, places, pivot, bits))


def _first_by_twos_cost(rows: int, length: int, bits: int, place_bits: int, until: int) -> Cost:
    levels, left = levels_of(length, until)
    total = tournament_cost(rows, length, bits, until)
    if levels:  # the places arrive beside the first comparisons
        ends = ends_of_cost(rows * left, levels, place_bits)
        total = Cost(total.rounds, total.bits + ends.bits)
    return total + _by_fours_cost(rows, left, bits, place_bits, not levels)


def _argmax_by_fours(party: Party, x: Replicated, until: int) -> Protocol[Replicated]:
    rows, length = x.shape
    bits = _place_bits(length)

    def block(piece: tuple[slice, slice], pivot: int) -> Protocol[tuple[Replicated, Replicated]]:
        return first_by_twos(party, x[piece], piece[1].start, pivot, bits, until)

    pieces = blocks(rows, length)
    found = yield from each_led(party, pieces, block)
    values, places = [value for value, _ in found], [place for _, place in found]
    if len(pieces) == 1 or rows >= 3:
        place = joined(places)
    else:
        last = stacked(values, axis=1), stacked(places, axis=1)
        _, place = yield from _by_fours(party, *last, party.next_pivot(), bits)
    return (yield from lift(party, see(party, place, party.next_pivot()), WHOLE.bits))


def _argmax_by_fours_cost(rows: int, length: int, bits: int, until: int) -> Cost:
    place_bits, total = _place_bits(length), FREE
    pieces = blocks(rows, length)
    for r, c in pieces:
        total |= _first_by_twos_cost(r.stop - r.start, c.stop - c.start, bits, place_bits, until)
    if len(pieces) > 1 and rows < 3:
        total = total + _by_fours_cost(rows, 3, bits, place_bits, False)
    return total + lift_cost(rows, place_bits, WHOLE.bits)


def argmax(party: Party, x: Replicated, way: Way = Way.TWOS) -> Protocol[Replicated]:
    """The place of the largest element of each row, (rows, n) to (rows,) in the format WHOLE.

    Conditions and masks as in `tournament` or `largest_of_four`; of equal elements the first. Rounds and
    bits: `argmax_cost`.
    """
    rows, length = x.shape
    if way is not Way.TWOS and length > 1:
        return (yield from _argmax_by_fours(party, x, way.until(length)))
    found = yield from each_led(
        party, blocks(rows, length), lambda piece, pivot: _block(party, x[piece], pivot, piece[1].start)
    )
    places = [block[1] for block in found]
    if len(places) == 1 or rows >= 3:
        return joined(places)
    values = stacked([block[0] for block in found], axis=1)
    return (yield from _final(party, values, stacked(places, axis=1), party.next_pivot()))


def argmax_cost(rows: int, length: int, bits: int, way: Way = Way.TWOS) -> Cost:
    if way is not Way.TWOS and length > 1:
        return _argmax_by_fours_cost(rows, length, bits, way.until(length))
    total = FREE
    pieces = blocks(rows, length)
    for r, c in pieces:
        total |= _block_cost(r.stop - r.start, c.stop - c.start, bits)
    if len(pieces) > 1 and rows < 3:
        total = total + _final_cost(rows, 3, bits)
    return total
