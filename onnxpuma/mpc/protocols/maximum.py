"""The largest element of each row, by a tournament of comparisons on few bits (docs/protocols.md, "Maximum").

Softmax is shift-invariant: its maximum needs to be right within a unit or so, and the protocol reads it
coarsely. Rows may have different lengths: positions that a public mask excludes never take part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated, Split, joined, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import is_negative, is_negative_cost
from onnxpuma.mpc.protocols.convert import deal_cost, deal_halves, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.fours import GROUP, largest_value, largest_value_cost
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.ring import arrays
from onnxpuma.mpc.ring.arrays import indices, integers, read
from onnxpuma.mpc.ring.words import WIDEST

Level: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def bracket(lengths: npt.ArrayLike) -> list[Level]:
    """The tournament's schedule for rows of these lengths that lie end to end.

    One entry a level, (left, right, alone, order): the indices of the pairs, the indices of elements that
    pass because their row has no other, and the order that brings winners and passers of each row together.
    In a row of odd length one element plays twice. At the first level the element of a row of one plays
    against itself.
    """
    return _bracket(integers(lengths).tobytes())


@lru_cache(maxsize=8)
def _bracket(packed: bytes) -> list[Level]:
    """Cached: every layer of a model plays the same rows, and its cost needs the schedule again."""
    levels: list[Level] = []
    lengths = read(packed, WIDEST).view(np.int64)
    if (lengths < 1).any():
        raise ProtocolError("a row without elements has no maximum", "leave such rows out")
    while (lengths > 1).any() or not levels:
        starts = np.cumsum(lengths) - lengths
        play = lengths > 1 if levels else lengths > 0
        pairs = np.where(play, (lengths + 1) // 2, 0)
        row = np.repeat(indices(len(lengths)), pairs)
        place = indices(len(row)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        last = starts[row] + lengths[row] - 1
        left = np.minimum(starts[row] + 2 * place, last)
        right = np.minimum(left + 1, last)
        left = np.where((left == right) & (lengths[row] > 1), left - 1, left)
        alone = starts[~play]
        order = np.argsort(arrays.joined([row, np.flatnonzero(~play)]), kind="stable")
        levels.append((left, right, alone, order))
        lengths = np.where(play, pairs, lengths)
    return levels


def _pairs_by_level(lengths: np.ndarray) -> Iterator[int]:
    """The number of pairs at each level of `bracket`. Rows of one length are counted together, and no index
    is made."""
    lengths, rows = np.unique(integers(lengths), return_counts=True)
    played = False
    while (lengths > 1).any() or not played:
        play = lengths > 1 if played else lengths > 0
        pairs = np.where(play, (lengths + 1) // 2, 0)
        yield int(pairs @ rows)
        lengths, played = np.where(play, pairs, lengths), True


def _by_fours(lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The schedule by fours: the elements of each group, (groups, 4), a row's last element repeated; the
    elements that pass; and the order that brings winners and passers of each row together."""
    lengths, first = integers(lengths), True
    while (lengths > 1).any() or first:
        starts = np.cumsum(lengths) - lengths
        play = lengths > (0 if first else 1)
        groups = np.where(play, -(-lengths // GROUP), 0)
        row = np.repeat(indices(len(lengths)), groups)
        place = indices(len(row)) - np.repeat(np.cumsum(groups) - groups, groups)
        member = GROUP * place[:, None] + indices(GROUP)
        index = starts[row][:, None] + np.minimum(member, lengths[row][:, None] - 1)
        order = np.argsort(arrays.joined([row, np.flatnonzero(~play)]), kind="stable")
        yield index, starts[~play], order
        lengths, first = np.where(play, groups, lengths), False


def row_maximum_by_fours(party: Party, x: Split, lengths: np.ndarray) -> Protocol[Replicated]:
    """`row_maximum` with four elements at a time: 3 rounds a level of four, and more bytes (fours.py)."""
    current = deal_halves(party, x)
    result: Replicated | None = None
    for index, alone, order in _by_fours(lengths):
        # 1. the largest of each group; 2. rows that have one element left pass
        winners = replicate_pair(party, (yield from largest_value(party, current[index])))
        result = winners if result is None else joined([winners, result[alone]])
        result = result[order]
        current = see(party, result, x.pivot)
    assert result is not None
    return result


def row_maximum_by_fours_cost(elements: int, lengths: np.ndarray, bits: int) -> Cost:
    cost, first = Cost(), True
    sizes, rows = np.unique(integers(lengths), return_counts=True)
    while (sizes > 1).any() or first:
        play = sizes > (0 if first else 1)
        groups = np.where(play, -(-sizes // GROUP), 0)
        number = int(groups @ rows)
        level = largest_value_cost(number, bits) + replicate_pair_cost(number, bits)
        cost = cost + (level if first else level.merged())
        sizes, first = np.where(play, groups, sizes), False
    return Cost(cost.rounds, cost.bits + deal_cost(elements, bits).bits)


def row_maximum(party: Party, x: Split, lengths: np.ndarray) -> Protocol[Replicated]:
    """Split(p) of all rows end to end, (n,), to their maxima, (rows,), Replicated in the same ring.

    Conditions: any two elements of a row differ by less than 2^(k-1), and no row is empty. Exact on the words
    as read. The result is still on its way when this returns. Masks: those of `is_negative`, `gate`,
    `replicate_pair`, fresh at each level. Rounds: 3 a level (log2 of the longest row) and 1; bits:
    `row_maximum_cost`.
    """
    # 1. the twins get halves of A, which the gates of the first level need
    current = deal_halves(party, x)
    result: Replicated | None = None
    for left, right, alone, order in bracket(lengths):
        # 2. of each pair: second + [first >= second] (first - second)
        first, second = current[left], current[right]
        lead = first - second
        loses = yield from is_negative(party, lead)
        pair = yield from gate(party, ~loses, lead)
        winners = replicate_pair(party, pair.plus_split(second))
        # 3. rows that have one element left pass
        result = winners if result is None else joined([winners, result[alone]])
        result = result[order]
        current = see(party, result, x.pivot)
    assert result is not None
    return result


def row_maximum_cost(elements: int, lengths: np.ndarray, bits: int) -> Cost:
    cost = Cost()
    for n in _pairs_by_level(lengths):
        level = is_negative_cost(n, bits) + gate_cost(n, bits) + replicate_pair_cost(n, bits)
        cost = cost + (level if not cost.rounds else level.merged())
    return Cost(cost.rounds, cost.bits + deal_cost(elements, bits).bits)
