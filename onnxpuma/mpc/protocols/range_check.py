"""Whether any of many secret numbers leaves its range, as one secret number: zero if none does, else random.

Each party computes the compared quantities from its own words: sums of squares of rows, or sums of random
parts of many numbers, of which few suffice. A comparison yields a shared bit. Random subsets of a run's bits
are joined by xor, and the joined bits gate random words that no party knows. A client that opens the sum of
these words learns "none" or "some" and nothing else, even if it colludes with one party (docs/protocols.md,
"Range check").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import WHOLE, Format
from onnxpuma.mpc.forms import Bit, Replicated, Sum3, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, parallel
from onnxpuma.mpc.prf import KEY_BYTES, AesStream
from onnxpuma.mpc.protocols.compare import signs, signs_cost
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.linear import multiply, sum_of_squares
from onnxpuma.mpc.ring.arrays import as_plane, joined, nothing, stacked, unpacked, zeros
from onnxpuma.mpc.ring.words import Words, resized, word_type

SAMPLES = 40  # sums of random parts; each misses a number out of range with probability 1/2
WIDTH = WHOLE.bits  # of the number that is opened
COMBINED = 40  # random subsets of the bits; each misses a set bit with probability 1/2


def coins(party: Party, what: str) -> AesStream:
    """Public random numbers for `what`, the same at all three parties: they follow from the session's name,
    which is drawn after the inputs are shared."""
    seed = hashlib.sha256(b"onnxpuma range check" + party.session + what.encode()).digest()
    return AesStream(seed[:KEY_BYTES])


# -- the compared quantities: local --------------------------------------------------------------------------


def row_squares(party: Party, x: Replicated, shift: int) -> Sum3:
    """The sum of squares of each row of (rows, n), with `shift` fraction bits less, in a ring of as many
    less.

    Condition: below 2^(k - 2 - shift) in its units. An element is off by 1.5 units of 2^(shift - fraction).
    """
    return sum_of_squares(party, x.lowered(shift), (1,)).reshape(-1)


def row_deviations(party: Party, x: Replicated, shift: int) -> Sum3:
    """n times the sum of squares of each row of (rows, n) less its mean; otherwise as `row_squares`."""
    low = x.lowered(shift)
    count = word_type(low.bits).type(low.shape[1])
    total = low.sum(1)
    squares = sum_of_squares(party, low, (1,)).reshape(-1)
    return squares.times(count) - multiply(party, total, total)


def less_mean(words: Words, axis: int) -> Words:
    """Words less their mean over an axis, times the length of the axis. Local, on each component."""
    count = words.dtype.type(words.shape[axis])
    return words * count - words.sum(axis=axis, dtype=words.dtype, keepdims=True)


def samples(
    party: Party,
    x: Replicated | Sum3,
    shift: int,
    stream: AesStream,
    whole: bool = False,
    count: int = SAMPLES,
) -> Sum3:
    """`count` sums of each row of (rows, n). A sum takes each element, its negative, or neither, at random.

    An element 2t or more from zero puts a sum t or more from zero with probability 1/2, whatever the others
    are and however often words wrap: of two sums that differ by the element at least one lies there. `whole`:
    a sum takes each element or its negative, so t or more from zero is enough, below 2^(k-2); and if two
    elements are t apart, one sum in four is t or more from zero. With `shift` fraction bits less, off by
    three units at most.
    """
    terms = x.as_sum().words
    sums = ring.coin_sums(terms, stream.draw((terms.shape[1], count), 8), whole)
    return Sum3(party.index, sums.reshape(-1), x.format).lowered(shift)


# -- comparisons: bits ------------------------------------------------------------------------------


ABOVE, UNDER, OUTSIDE, INSIDE = "above", "under", "outside", "inside"
"""Where x lies beyond a bound b: x >= b; x < b; |x| >= b, in two bits, one for each side; |x| < b."""
OPPOSITE = "opposite"
"""Two neighbours of different signs."""


def beyond(party: Party, x: Replicated | Sum3, below: int, side: str, pivot: int) -> Protocol[list[Bit]]:
    """Bits of which elements of (n,) lie beyond a bound; exact.

    below: the bound, in units of x, less than 2^(k-1); positive, except for UNDER. Rounds: 3, fewer in a
    small ring; bits: `beyond_cost`. Masks: those of `split` and `signs`.
    """
    seen = split(party, x, pivot, x.format)
    if side == OPPOSITE:
        (negative,) = yield from signs(party, seen, (0,), deep=True)
        return [_differing(negative)]
    ends = (below, 1 - below)[: _ends(side)]
    less, *other = yield from signs(party, seen, ends, deep=True)
    if side in (UNDER, INSIDE):
        return [less ^ other[0] if other else less]
    return [~less, *other]


def _differing(bit: Bit) -> Bit:
    """[first xor second] of each pair of neighbours."""
    count = bit.size // 2
    if bit.role == PIVOT:
        return Bit(PIVOT, bit.pivot, nothing((-(-count // 8),), 8), (count,))
    pairs = unpacked(bit.plane, bit.size).reshape(count, 2)
    return Bit(bit.role, bit.pivot, as_plane(pairs[:, 0] ^ pairs[:, 1]), (count,))


def _ends(side: str) -> int:
    return 2 if side in (OUTSIDE, INSIDE) else 1


def beyond_cost(count: int, side: str, bits: int, form: type) -> Cost:
    return Cost(0, split_cost(count, bits, form).bits) + signs_cost(count, bits, _ends(side), deep=True)


# -- one number from all bits ---------------------------------------------------------------------------


def any_of(party: Party, bits: Sequence[Bit], stream: AesStream | None = None) -> Protocol[Sum3]:
    """Zero if no bit is set, else uniform in the ring of WHOLE: over the last axis of all bits, (m, n) each.

    1. If one pivot has more than COMBINED bits, they are joined by xor over random subsets (`stream`); local.
    2. Each joined bit gates a fresh word rho = F_0 + F_1 + F_2, of which every party lacks one part.
    The result is the sum of the gated words. It does not depend on which bits are set: each rho is used once
    and never opened. Set bits are missed with probability 2^-40, whichever they are. Rounds: 1; bits:
    `any_of_cost`.
    """
    by_pivot = {p: [b for b in bits if b.pivot == p] for p in range(3)}
    joined = [_joined(found, stream) for found in by_pivot.values() if found]
    return _summed(party, (yield from parallel(_gated(party, bit) for bit in joined)))


def any_of_cost(counts: Sequence[int]) -> Cost:
    """counts: bits of each pivot that has any."""
    total = Cost()
    for count in counts:
        if count:
            total |= gate_cost(min(count, COMBINED), WIDTH)
    return total


def _joined(bits: Sequence[Bit], stream: AesStream | None) -> Bit:
    first, count = bits[0], sum(bit.shape[1] for bit in bits)
    left, chosen = min(count, COMBINED), _subsets(stream, count) if count > COMBINED else None
    shape = (first.shape[0], left)
    if first.role == PIVOT:
        return Bit(PIVOT, first.pivot, nothing((-(-math.prod(shape) // 8),), 8), shape)
    every = joined([unpacked(b.plane, b.size).reshape(b.shape) for b in bits], axis=1)
    if chosen is not None:
        every = stacked([np.bitwise_xor.reduce(every[:, some], axis=1) for some in chosen], axis=1)
    return Bit(first.role, first.pivot, as_plane(every), shape)


def _subsets(stream: AesStream | None, count: int) -> np.ndarray:
    assert stream is not None
    drawn = stream.draw((COMBINED, -(-count // 8)), 8)
    return unpacked(drawn, count, axis=1).astype(bool)


def _gated(party: Party, bit: Bit) -> Protocol[tuple[int, Words]]:
    """This party's term of the sum of rho over the set bits."""
    first, second = (party.draw(party.index + i, bit.shape, WIDTH) for i in range(2))
    rho = Replicated(party.index, first, second, Format(WIDTH, 0))
    pair = yield from gate(party, bit, see(party, rho, bit.pivot))
    words = resized(pair.words, WIDTH)
    return bit.pivot, words.sum(axis=1, dtype=words.dtype)


def _summed(party: Party, terms: Sequence[tuple[int, Words]]) -> Sum3:
    total = zeros(terms[0][1].shape, WIDTH)
    for pivot, words in terms:
        if party.role(pivot) != PIVOT:
            total = total + words
    return Sum3(party.index, total, Format(WIDTH, 0))
