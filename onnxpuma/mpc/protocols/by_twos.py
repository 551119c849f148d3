"""The largest of each row and the path to it, by a tournament of exact comparisons of two.

Neighbours play, so the left one always stands earlier. A winner's place is the path that it took, one
XOR-shared bit a level. Choosing between two paths takes 3 bits for each bit of a path, where gating a place
would take a word.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.forms import Bit, Replicated, joined, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, parallel
from onnxpuma.mpc.protocols.boolean import Polynomial, xor
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost, concatenated, gate, gate_cost
from onnxpuma.mpc.protocols.wide import combined, combined_cost
from onnxpuma.mpc.ring import arrays
from onnxpuma.mpc.ring.arrays import as_plane, counting, nothing, unpacked
from onnxpuma.mpc.ring.words import Words, word


def tournament(party: Party, x: Replicated, pivot: int) -> Protocol[tuple[Replicated, list[Bit]]]:
    """The largest of each row of x, (rows, n) mod 2^k, and the bits of its place, lowest first: (rows,).

    Conditions: any two elements of a row differ by less than 2^(k-1), and all have arrived. Exact; of equal
    elements the first. The values may still be on their way when this returns. Masks: those of
    `wide_negative`, `gate`, `combined`, `replicate_pair`, fresh at each level.
    Rounds: 4 a level and 1; bits: `tournament_cost`.
    """
    x, paths = yield from by_twos(party, x, pivot, 1)
    return x[:, 0], [Bit(path.role, path.pivot, path.plane, (x.shape[0],)) for path in paths]


def by_twos(party: Party, x: Replicated, pivot: int, until: int) -> Protocol[tuple[Replicated, list[Bit]]]:
    """`tournament` until a row has at most so many elements: these, (rows, n), and the paths to them."""
    paths = arrays.zeros((0, *x.shape), 8)
    while x.shape[1] > until:
        half = x.shape[1] // 2
        seen = see(party, x, pivot)
        left, right = seen[every_other(0, half)], seen[every_other(1, half)]
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


def every_other(start: int, count: int) -> tuple[Any, ...]:
    return ..., slice(start, 2 * count, 2)


def with_last(winners: Replicated, before: Replicated) -> Replicated:
    """The winners, followed by the element that had no opponent."""
    return winners if before.shape[1] % 2 == 0 else joined([winners, before[:, -1:]], axis=1)


def _chosen(party: Party, loses: Bit, paths: Words, half: int) -> Protocol[Words]:
    """The paths of the winners, as bytes: (bits, rows, n) -> (bits + 1, rows, (n + 1) / 2)."""
    count, rows, n = paths.shape
    left, right = paths[every_other(0, half)], paths[every_other(1, half)]

    def plane(path: Words) -> Words:
        return loses.plane if loses.role == PIVOT else as_plane(path)

    apart = [Bit(loses.role, loses.pivot, plane(path), loses.shape) for path in left ^ right]
    moved = (yield from combined(party, [loses, *apart], _choices(count))) if count else []
    result = arrays.zeros((count + 1, rows, n - half), 8, loses.plane)
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


def levels_of(length: int, until: int) -> tuple[int, int]:
    """The levels that are played by twos until at most so many elements are left, and how many these are."""
    level = 0
    while length > until:
        length, level = length - length // 2, level + 1
    return level, length


def ends_of(party: Party, paths: list[Bit], first: Words, bits: int) -> Protocol[Replicated]:
    """`first` and the numbers mod 2^bits whose binary digits are these, the lowest first; on their way."""
    pair = yield from arithmetic(party, concatenated(paths), bits)
    weights = (word(1, bits) << counting(len(paths), bits)).reshape(-1, *[1] * len(paths[0].shape))
    ends = pair.map(lambda w: (w * weights).sum(axis=0, dtype=w.dtype))
    return replicate_pair(party, ends.plus(first))


def ends_of_cost(elements: int, levels: int, bits: int) -> Cost:
    """The first round is that in which the values of the tournament arrive."""
    return arithmetic_cost(levels * elements, bits).merged() + replicate_pair_cost(elements, bits)
