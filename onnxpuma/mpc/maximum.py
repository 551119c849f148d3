"""The largest element of each row, by a tournament of comparisons on few bits (protocols.md, section 8).

Softmax is shift-invariant: its maximum only has to be right within a unit or so, so it is read coarsely.
Rows may have different lengths (positions that a public mask excludes never take part).
"""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.compare import is_negative, is_negative_cost
from onnxpuma.mpc.convert import deal, deal_cost, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.gate import gate, gate_cost
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Replicated, Split, see


def bracket(lengths: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The tournament's schedule for rows of these lengths, laid end to end.

    One entry a level: (left, right, alone, order): indices of the pairs, of the elements that pass (rows
    already down to one), and the order that puts winners and passers row by row. A row of odd length plays
    one element twice. The first level plays rows of one element against themselves.
    """
    levels = []
    lengths = np.asarray(lengths, np.int64)
    while (lengths > 1).any() or not levels:
        starts = np.cumsum(lengths) - lengths
        play = lengths > 1 if levels else lengths > 0
        pairs = np.where(play, (lengths + 1) // 2, 0)
        row = np.repeat(np.arange(len(lengths)), pairs)
        place = np.arange(len(row)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        last = starts[row] + lengths[row] - 1
        left = np.minimum(starts[row] + 2 * place, last)
        right = np.minimum(left + 1, last)
        left = np.where((left == right) & (lengths[row] > 1), left - 1, left)
        alone = starts[~play]
        order = np.argsort(np.concatenate([row, np.flatnonzero(~play)]), kind="stable")
        levels.append((left, right, alone, order))
        lengths = np.where(play, pairs, lengths)
    return levels


def row_maximum(party: Party, x: Split, lengths: np.ndarray) -> Protocol[Replicated]:
    """Split(p) of all rows end to end, (n,), to their maxima, (rows,), Replicated in the same ring, still arriving.

    Any two elements of a row differ by less than 2^(k-1). Exact on the words as read.
    Rounds: 3 a level (log2 of the longest row) and 1; bits: `row_maximum_cost`.
    """
    halves = deal(party, x.pivot, x.words if x.role == 0 else None, x.shape, x.bits)
    current = Split(x.role, x.pivot, x._words, x.bits, x.fraction, halves)
    result: Replicated | None = None
    for left, right, alone, order in bracket(lengths):
        first, second = current.map(lambda w, i=left: w[i]), current.map(lambda w, i=right: w[i])
        lead = first.minus(second)
        loses = yield from is_negative(party, lead)
        pair = yield from gate(party, ~loses, lead)
        winners = replicate_pair(party, pair.plus_split(second))
        if len(alone):
            result = _interleave(party, winners, result, alone, order)
        else:
            result = winners.map(lambda w, i=order: w[i])
        current = see(party, result, x.pivot)
    assert result is not None
    return result


def _interleave(
    party: Party, winners: Replicated, before: Replicated | None, alone: np.ndarray, order: np.ndarray
) -> Replicated:
    from onnxpuma.mpc.party import lazily

    assert before is not None

    def together(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.concatenate([new, old[alone]])[order]

    first = lazily(together, winners._first, before._first)
    second = lazily(together, winners._second, before._second)
    return Replicated(party.index, first, second, winners.bits, winners.fraction)


def row_maximum_cost(elements: int, lengths: np.ndarray, bits: int) -> Cost:
    cost = Cost()
    for left, *_ in bracket(lengths):
        n = len(left)
        level = is_negative_cost(n, bits) + gate_cost(n, bits) + replicate_pair_cost(n, bits)
        cost = cost + (level if not cost.rounds else level.merged())
    return Cost(cost.rounds, cost.bits + deal_cost(elements, bits).bits)
