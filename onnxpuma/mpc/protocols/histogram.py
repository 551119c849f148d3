"""A number near the largest of each row, in three rounds for any length (docs/protocols.md, "Maximum").

The pivot deals, for each element, which bucket its A lies in; the twins turn that by B and add up over the
row. So they hold shares of a histogram, and of the number of elements from each bucket upwards. Where that
number is zero, the maximum lies below. Only the pivot's part is rounded to buckets: the twins add B's finer
place, so that buckets can be wide and their edges close together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Bit, Replicated, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost
from onnxpuma.mpc.ring.arrays import (
    as_plane,
    contiguous,
    counting,
    flat,
    indices,
    nothing,
    zeros,
)
from onnxpuma.mpc.ring.words import Words, reduced, resized, word, word_type


@dataclass(frozen=True)
class Histogram:
    """Buckets around the first element of a row. All numbers are powers of two, given by their logarithms."""

    span: int  # units of all buckets together
    buckets: int  # that the pivot deals for an element
    fine: int  # edges in a bucket

    @property
    def step(self) -> float:
        """Units from edge to edge."""
        return 2.0 ** (self.span - self.buckets - self.fine)

    @property
    def above(self) -> float:
        """The maximum lies less than this above the result."""
        return self.step

    @property
    def below(self) -> float:
        """The maximum lies less than this below the result."""
        return 2.0 ** (self.span - self.buckets)

    @property
    def edges(self) -> int:
        """Edges above the first element."""
        return (1 << (self.buckets + self.fine - 1)) - 1

    @property
    def spread(self) -> float:
        """Two elements of a row lie less than this apart."""
        return 2.0 ** (self.span - 1) - self.below - self.step


def _count_bits(lengths: np.ndarray) -> int:
    """Bits of a number of elements of a row, its first one not counted."""
    return max(1, (int(lengths.max()) - 1).bit_length())


def _others(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of all elements but the first of each row, and their rows."""
    starts = np.cumsum(lengths) - lengths
    row = np.repeat(indices(len(lengths)), lengths)
    others = indices(len(row)) != starts[row]
    return np.flatnonzero(others), row[others]


def row_peak(party: Party, x: Split, lengths: np.ndarray, how: Histogram, bits: int) -> Protocol[Replicated]:
    """Split(p) of each row's elements less its first, (n,), rows of these lengths end to end, to a number
    near the maximum of each row, (rows,), Replicated mod 2^bits at x's scale: a multiple of `how.step`.

    maximum - how.above < result < maximum + how.below. Condition: |x| < how.spread. Masks: F_{p+1} on the
    buckets, those of `zero_counts` and `arithmetic`, fresh for every row and edge. The result is still on its
    way when this returns. Rounds: 4, the first one way from the pivot, which knows its part at once; bits:
    `row_peak_cost`.
    """
    p, role = x.pivot, party.role(x.pivot)
    places, row = _others(lengths)
    read, shift = x.fraction + how.span, x.fraction + how.span - how.buckets
    t = _count_bits(lengths)
    table, counted = (len(places), 1 << how.buckets), (len(lengths), how.edges)
    counts: Words = nothing(counted, t)
    # 1. the bucket of A, rounded up: 1 there, else 0
    if role == PIVOT:
        words = reduced(x.words, read)[places]
        top = reduced(words + words.dtype.type((1 << shift) - 1), read) >> word(shift, read)
        dealt = zeros(table, t, top)
        dealt[indices(len(places)), top] = word(1, t)
        deal(party, p, dealt, table, t)
        yield
    else:
        late = deal(party, p, None, table, t)
        yield
        # 2. turned by B and added up over the row; then from each edge upwards
        words = reduced(x.words, read)[places]
        place = (words >> word(shift - how.fine, read)).astype(np.int64)
        counts = _from_edges(resized(taken(late), t), place, row, len(lengths), how)
    empty = yield from zero_counts(party, p, counts, counted, t)
    # 3. the number of edges that an element reaches
    reached = (yield from arithmetic(party, ~empty, bits)).sum(axis=1)
    step = 1 << (shift - how.fine)
    return replicate_pair(party, reached.times_integers(step).with_fraction(x.fraction))


def _from_edges(table: Words, place: np.ndarray, row: np.ndarray, rows: int, how: Histogram) -> Words:
    """This twin's share of the number of elements from each edge upwards, (rows, edges)."""
    fine = place & ((1 << how.fine) - 1)
    sums = ring.turned_sums(table, (row << how.fine) + fine, place >> how.fine, rows << how.fine)
    by_edge = sums.reshape(rows, 1 << how.fine, -1).swapaxes(1, 2).reshape(rows, -1)[:, 1 : how.edges + 1]
    return contiguous(np.cumsum(by_edge[:, ::-1], axis=1, dtype=table.dtype)[:, ::-1])


def zero_counts(party: Party, pivot: int, counts: Words, shape: tuple[int, ...], bits: int) -> Protocol[Bit]:
    """[count = 0] of counts that the twins share, mod 2^bits; exact.

    The twins open the count under a mask that the pivot knows, and read the answer from a table of 2^bits
    bits that it deals. Masks: F_{p+1} and F_p on the count, F_{p+1} on the table. Rounds: 1; bits:
    `zero_counts_cost`.
    """
    role, size = party.role(pivot), int(np.prod(shape))
    each, many = _table(bits)
    tables = (*shape, many)
    if role == PIVOT:
        # 1. the twins will hold count - mask: where that is -mask the count is zero
        mask = party.draw(pivot + 1, shape, bits) + party.draw(pivot, shape, bits)
        place = reduced(word(0, bits) - mask, bits).astype(np.int64)
        here = counting(many, each) == (place // each)[..., None]
        bit = word(1, each) << (place % each).astype(word_type(each))[..., None]
        found = np.where(here, bit, word(0, each))
        party.send(pivot + 2, found ^ party.draw(pivot + 1, tables, each), each)
        yield
        return Bit(role, pivot, nothing((-(-size // 8),), 8), shape)
    mine = counts - party.draw(pivot + 1 if role == U else pivot, shape, bits)
    late = party.draw(pivot + 1, tables, each) if role == U else party.expect(pivot, tables, each)
    other = pivot + (V if role == U else U)
    party.send(other, mine, bits)
    arriving = party.expect(other, shape, bits)
    yield
    # 2. the bit at the opened place
    place = reduced(mine + arriving.take(), bits).astype(np.int64)
    one = np.take_along_axis(taken(late), (place // each)[..., None], -1)[..., 0]
    bit = (one >> (place % each).astype(one.dtype)) & word(1, each)
    return Bit(role, pivot, as_plane(flat(bit)), shape)


def _table(bits: int) -> tuple[int, int]:
    """Bits of a word of the table of zeros, and its words."""
    each = min(1 << bits, 64)
    return each, (1 << bits) // each


def zero_counts_cost(elements: int, bits: int) -> Cost:
    each, many = _table(bits)
    return Cost(1, packed(elements * many, each) + 2 * packed(elements, bits))


def row_peak_cost(lengths: np.ndarray, how: Histogram, bits: int) -> Cost:
    rows, t = len(lengths), _count_bits(lengths)
    dealt = deal_cost((int(lengths.sum()) - rows) << how.buckets, t)
    counted = zero_counts_cost(rows * how.edges, t) + arithmetic_cost(rows * how.edges, bits)
    return dealt + counted + replicate_pair_cost(rows, bits)
