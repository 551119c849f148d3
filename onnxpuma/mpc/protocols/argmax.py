"""The place of the largest element of each row, by a tournament of exact comparisons.

By twos: neighbours play, so the left one always stands earlier. A winner's place is the path that it took,
one XOR-shared bit a level. Choosing between two paths takes 3 bits for each bit of a path, where gating a
place would take a word. By fours (fours.py): fewer rounds, more bits, and the place is a word beside the
value. A long row may begin by twos, which costs what most of its elements cost, and end by fours.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import WHOLE
from onnxpuma.mpc.forms import Bit, Replicated, joined, see, stacked, zeros
from onnxpuma.mpc.party import PIVOT, Party, Protocol, parallel
from onnxpuma.mpc.protocols.boolean import Polynomial, xor
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle
from onnxpuma.mpc.protocols.fours import (
    GROUP,
    grouped,
    grouped_words,
    largest_of_four,
    largest_of_four_cost,
)
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost, concatenated, gate, gate_cost
from onnxpuma.mpc.protocols.pivots import blocks, each_led
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.protocols.wide import combined, combined_cost
from onnxpuma.mpc.ring import arrays
from onnxpuma.mpc.ring.arrays import as_plane, counting, indices, nothing, unpacked
from onnxpuma.mpc.ring.words import Words, from_integers, word

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


def tournament(party: Party, x: Replicated, pivot: int) -> Protocol[tuple[Replicated, list[Bit]]]:
    """The largest of each row of x, (rows, n) mod 2^k, and the bits of its place, lowest first: (rows,).

    Conditions: any two elements of a row differ by less than 2^(k-1), and all have arrived. Exact; of equal
    elements the first. The values may still be on their way when this returns. Masks: those of
    `wide_negative`, `gate`, `combined`, `replicate_pair`, fresh at each level.
    Rounds: 4 a level and 1; bits: `tournament_cost`.
    """
    x, paths = yield from _by_twos(party, x, pivot, 1)
    return x[:, 0], [Bit(path.role, path.pivot, path.plane, (x.shape[0],)) for path in paths]


def _by_twos(party: Party, x: Replicated, pivot: int, until: int) -> Protocol[tuple[Replicated, list[Bit]]]:
    """`tournament` until a row has at most so many elements: these, (rows, n), and the paths to them."""
    paths = arrays.zeros((0, *x.shape), 8)
    while x.shape[1] > until:
        half = x.shape[1] // 2
        seen = see(party, x, pivot)
        left, right = seen[_every_other(0, half)], seen[_every_other(1, half)]
        lead = left - right
        # 1. which of two neighbours is larger; 2. right + [left >= right] (left - right), and the path
        loses = yield from wide_negative(party, lead)
        steps: list[Protocol[Any]] = [gate(party, ~loses, lead), _chosen(party, loses, paths, half)]
        pair, paths = yield from parallel(steps)
        winners = replicate_pair(party, pair.plus_split(right))
        x = with_last(winners, x)
    role = party.role(pivot)

    def bit(path: Words) -> Bit:
        size = -(-path.size // 8)
        plane = nothing((size,), 8) if role == PIVOT else as_plane(path)
        return Bit(role, pivot, plane, path.shape)

    return x, [bit(path) for path in paths]


def _every_other(start: int, count: int) -> tuple[Any, ...]:
    return ..., slice(start, 2 * count, 2)


def with_last(winners: Replicated, before: Replicated) -> Replicated:
    """The winners, followed by the element that had no opponent."""
    return winners if before.shape[1] % 2 == 0 else joined([winners, before[:, -1:]], axis=1)


def _chosen(party: Party, loses: Bit, paths: Words, half: int) -> Protocol[Words]:
    """The paths of the winners, as bytes: (bits, rows, n) -> (bits + 1, rows, (n + 1) / 2)."""
    count, rows, n = paths.shape
    left, right = paths[_every_other(0, half)], paths[_every_other(1, half)]

    def plane(path: Words) -> Words:
        return loses.plane if loses.role == PIVOT else as_plane(path)

    apart = [Bit(loses.role, loses.pivot, plane(path), loses.shape) for path in left ^ right]
    moved = (yield from combined(party, [loses, *apart], _choices(count))) if count else []
    result = arrays.zeros((count + 1, rows, n - half), 8)
    if loses.role != PIVOT:
        for number, (bit, path) in enumerate(zip(moved, left, strict=True)):
            result[number, :, :half] = path ^ unpacked(bit.plane, bit.size).reshape(rows, half)
        result[count, :, :half] = unpacked(loses.plane, loses.size).reshape(rows, half)
        result[:count, :, half:] = paths[:, :, 2 * half :]
    return result


@cache
def _choices(count: int) -> tuple[Polynomial, ...]:
    return tuple(xor((0, 1 + number)) for number in range(count))


def tournament_cost(rows: int, length: int, bits: int, until: int = 1) -> Cost:
    """until: the elements of a row that are left."""
    total, level = FREE, 0
    while length > until:
        n = rows * (length // 2)
        choice = combined_cost(n, _choices(level)) if level else FREE
        played = wide_negative_cost(n, bits) + (gate_cost(n, bits) | choice) + replicate_pair_cost(n, bits)
        total = total + (played.merged() if level else played)
        length, level = length - length // 2, level + 1
    return total


def _left(length: int, until: int) -> tuple[int, int]:
    """The levels that are played by twos until at most so many elements are left, and how many these are."""
    level = 0
    while length > until:
        length, level = length - length // 2, level + 1
    return level, length


def _paths_ends(party: Party, paths: list[Bit], bits: int) -> Protocol[Replicated]:
    """The numbers mod 2^bits whose binary digits are these, the lowest first; still on their way."""
    pair = yield from arithmetic(party, concatenated(paths), bits)
    weights = (word(1, bits) << counting(len(paths), bits)).reshape(-1, *[1] * len(paths[0].shape))
    return replicate_pair(party, pair.map(lambda w: (w * weights).sum(axis=0, dtype=w.dtype)))


def _paths_ends_cost(elements: int, levels: int, bits: int) -> Cost:
    """The first round is that in which the values of the tournament arrive."""
    return arithmetic_cost(levels * elements, bits).merged() + replicate_pair_cost(elements, bits)


def _block(party: Party, x: Replicated, pivot: int, start: int) -> Protocol[tuple[Replicated, Replicated]]:
    """The largest of each row and its place, counted from `start`; both have arrived."""
    values, paths = yield from tournament(party, x, pivot)
    if paths:
        places = yield from settle(party, (yield from _paths_ends(party, paths, PLACE_BITS)))
    else:
        places = zeros(party.index, values.shape, WHOLE)
    return values, places.plus_numbers(start)


def _block_cost(rows: int, length: int, bits: int) -> Cost:
    if length == 1:
        return FREE
    levels, _ = _left(length, 1)
    return tournament_cost(rows, length, bits) + _paths_ends_cost(rows, levels, PLACE_BITS)


def _final(party: Party, values: Replicated, places: Replicated, pivot: int) -> Protocol[Replicated]:
    """The place that belongs to the largest of a few: (rows, n) both."""
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        sides = []
        for x in (values, places):
            seen = see(party, x, pivot)
            sides.append((seen[_every_other(0, half)], seen[_every_other(1, half)]))
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


def _first_by_twos(
    party: Party, x: Replicated, start: int, pivot: int, bits: int, until: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """`_by_fours` of each row of x, whose places count from `start`, after `_by_twos`."""
    few, paths = yield from _by_twos(party, x, pivot, until)
    blocks = from_integers(start + (indices(few.shape[1]) << len(paths)), bits)
    if not paths:
        return (yield from _by_fours(party, few, blocks + arrays.zeros(few.shape, bits), pivot, bits))
    places = yield from _paths_ends(party, paths, bits)
    return (yield from _by_fours(party, few, places.plus(blocks), pivot, bits))


def _first_by_twos_cost(rows: int, length: int, bits: int, place_bits: int, until: int) -> Cost:
    levels, left = _left(length, until)
    total = tournament_cost(rows, length, bits, until)
    if levels:  # the places arrive beside the first comparisons
        ends = _paths_ends_cost(rows * left, levels, place_bits)
        total = Cost(total.rounds, total.bits + ends.bits)
    return total + _by_fours_cost(rows, left, bits, place_bits, not levels)


def _argmax_by_fours(party: Party, x: Replicated, until: int) -> Protocol[Replicated]:
    rows, length = x.shape
    bits = _place_bits(length)

    def block(piece: tuple[slice, slice], pivot: int) -> Protocol[tuple[Replicated, Replicated]]:
        return _first_by_twos(party, x[piece], piece[1].start, pivot, bits, until)

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
