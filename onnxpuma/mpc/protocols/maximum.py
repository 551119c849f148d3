"""The largest element of each row, by a tournament of comparisons on few bits (docs/protocols.md, "Maximum").

Softmax is shift-invariant: its maximum needs to be right within a unit or so, and the protocol reads it
coarsely. Rows may have different lengths: positions that a public mask excludes never take part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Pair, Replicated, Split, joined, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import is_negative, is_negative_cost
from onnxpuma.mpc.protocols.convert import deal_cost, deal_halves, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.fours import GROUP, largest_value, largest_value_cost
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.ring import arrays
from onnxpuma.mpc.ring.arrays import indices, integers, read
from onnxpuma.mpc.ring.words import WIDEST

# Of each group its members, (size, groups); the elements that pass because their row has no other; and the
# order that brings winners and passers of each row together. All are indices.
Level: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def bracket(lengths: npt.ArrayLike, size: int) -> list[Level]:
    """The schedule of a tournament in groups of `size`, for rows of these lengths that lie end to end.

    The last element of a row fills its last group, and plays against itself. At the first level the element
    of a row of one does so too.
    """
    return _bracket(integers(lengths).tobytes(), size)


@lru_cache(maxsize=8)
def _bracket(packed: bytes, size: int) -> list[Level]:
    """Cached: every layer of a model plays the same rows, and its cost needs the schedule again."""
    levels: list[Level] = []
    lengths = read(packed, WIDEST).view(np.int64)
    if (lengths < 1).any():
        raise ProtocolError("a row without elements has no maximum", "leave such rows out")
    while (lengths > 1).any() or not levels:
        starts = np.cumsum(lengths) - lengths
        play = lengths > 1 if levels else lengths > 0
        groups = np.where(play, -(-lengths // size), 0)
        row = np.repeat(indices(len(lengths)), groups)
        place = indices(len(row)) - np.repeat(np.cumsum(groups) - groups, groups)
        members = starts[row] + np.minimum(size * place + indices(size)[:, None], lengths[row] - 1)
        order = np.argsort(arrays.joined([row, np.flatnonzero(~play)]), kind="stable")
        levels.append((members, starts[~play], order))
        lengths = np.where(play, groups, lengths)
    return levels


def groups_by_level(lengths: np.ndarray, size: int) -> Iterator[int]:
    """The number of groups at each level of `bracket`. Rows of one length are counted together, and no index
    is made."""
    lengths, rows = np.unique(integers(lengths), return_counts=True)
    played = False
    while (lengths > 1).any() or not played:
        play = lengths > 1 if played else lengths > 0
        groups = np.where(play, -(-lengths // size), 0)
        yield int(groups @ rows)
        lengths, played = np.where(play, groups, lengths), True


def row_maximum(party: Party, x: Split, lengths: np.ndarray) -> Protocol[Replicated]:
    """Split(p) of all rows end to end, (n,), to their maxima, (rows,), Replicated in the same ring.

    Conditions: any two elements of a row differ by less than 2^(k-1), and no row is empty. Exact on the words
    as read. The result is still on its way when this returns. Masks: those of `is_negative`, `gate`,
    `replicate_pair`, fresh at each level. Rounds: 3 a level (log2 of the longest row) and 1; bits:
    `row_maximum_cost`.
    """
    return (yield from _tournament(party, x, lengths, 2, _larger))


def row_maximum_by_fours(party: Party, x: Split, lengths: np.ndarray) -> Protocol[Replicated]:
    """`row_maximum` with four elements at a time: 3 rounds a level of four, and more bytes (fours.py)."""
    return (yield from _tournament(party, x, lengths, GROUP, _largest))


def _larger(party: Party, current: Split, members: np.ndarray) -> Protocol[Pair]:
    """second + [first >= second] (first - second)."""
    first, second = current[members[0]], current[members[1]]
    lead = first - second
    loses = yield from is_negative(party, lead)
    return (yield from gate(party, ~loses, lead)).plus_split(second)


def _largest(party: Party, current: Split, members: np.ndarray) -> Protocol[Pair]:
    return (yield from largest_value(party, current[members.T]))


def _tournament(
    party: Party,
    x: Split,
    lengths: np.ndarray,
    size: int,
    match: Callable[[Party, Split, np.ndarray], Protocol[Pair]],
) -> Protocol[Replicated]:
    # 1. the twins get halves of A, which the gates of the first level need
    current = deal_halves(party, x)
    result: Replicated | None = None
    for members, alone, order in bracket(lengths, size):
        # 2. of each group the largest
        winners = replicate_pair(party, (yield from match(party, current, members)))
        # 3. rows that have one element left pass
        result = winners if result is None else joined([winners, result[alone]])
        result = result[order]
        current = see(party, result, x.pivot)
    assert result is not None
    return result


def row_maximum_cost(elements: int, lengths: np.ndarray, bits: int) -> Cost:
    return _cost(elements, lengths, bits, 2, lambda n: is_negative_cost(n, bits) + gate_cost(n, bits))


def row_maximum_by_fours_cost(elements: int, lengths: np.ndarray, bits: int) -> Cost:
    return _cost(elements, lengths, bits, GROUP, lambda n: largest_value_cost(n, bits))


def _cost(elements: int, lengths: np.ndarray, bits: int, size: int, match: Callable[[int], Cost]) -> Cost:
    cost = Cost()
    for n in groups_by_level(lengths, size):
        level = match(n) + replicate_pair_cost(n, bits)
        cost = cost + (level if not cost.rounds else level.merged())
    return Cost(cost.rounds, cost.bits + deal_cost(elements, bits).bits)
