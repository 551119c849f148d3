"""A Pair carried over to a larger ring, by one product of two bits (docs/protocols.md, "Gates").

One twin knows the top bit of each half, so the carry out of the ring is a OR b with a at u and b at v. The
pivot knows the two bits that mask a and b, and deals their product. A Pair therefore becomes Replicated in a
larger ring for fewer bits than by way of the next pivot and `lift`.
"""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.ring.arrays import as_plane, nothing, unpacked
from onnxpuma.mpc.ring.words import Words, from_integers, reduced, resized, word_type


def widen(party: Party, y: Pair, bits: int, least: int | None = None) -> Protocol[Pair]:
    """Pair(p) mod 2^k of a signed y to Pair(p) mod 2^bits; exact.

    Condition: `least` <= y < least + 2^(k-1), in units; least: -2^(k-2) unless stated. A y outside comes out
    2^k too large or too small. Masks: the top bits of the halves by one bit each of F_{p+1} and F_p, the
    product of these two by F_{p+1}. Rounds: 1; bits: bits - k + 2. For bits <= k: local.
    """
    k, p, role, shape = y.bits, y.pivot, party.role(y.pivot), y.shape
    carry = bits - k
    if carry <= 0:
        return y.modulo(bits)
    made = Format(bits, y.fraction)
    # 1. the pivot deals the product of the two bits that mask the top bits
    if role == PIVOT:
        first, second = party.draw_planes(p + 1, 1, y.size)[0], party.draw_planes(p, 1, y.size)[0]
        deal(party, p, _numbers(first & second, y, carry), shape, carry)
        yield
        return Pair(role, p, nothing(shape, bits), made)
    mask = party.draw_planes(p + 1 if role == U else p, 1, y.size)[0]
    late = deal(party, p, None, shape, carry)
    # 2. u takes the offset, and each twin opens the top bit of its half under its mask
    offset = -(1 << (k - 2)) if least is None else least
    words = reduced(y.words - from_integers(offset, k) if role == U else y.words, k)
    top = as_plane(resized(words >> words.dtype.type(k - 1), 8))
    mine = top ^ mask
    other = p + (V if role == U else U)
    party.send(other, mine, 8)
    arriving = party.expect(other, mine.shape, 8)
    yield
    # 3. y_u + y_v - 2^k (a + b - a b): a b is linear in the product of the masks
    theirs = arriving.take()
    known = top & ~theirs if role == U else (top & ~theirs) | (mine & theirs)
    one = word_type(carry).type(1)
    flips = _numbers(mine ^ theirs, y, carry)
    turns = (one - (flips + flips)) * taken(late) - _numbers(known, y, carry)
    words = resized(words, bits) + (resized(reduced(turns, carry), bits) << word_type(bits).type(k))
    return Pair(role, p, words + from_integers(offset, bits) if role == U else words, made)


def _numbers(plane: Words, y: Pair, bits: int) -> Words:
    return resized(unpacked(plane, y.size), bits).reshape(y.shape)


def widen_cost(elements: int, source: int, bits: int) -> Cost:
    if bits <= source:
        return Cost()
    return Cost(1, deal_cost(elements, bits - source).bits + 2 * packed(elements, 1))


def lift_pair(party: Party, y: Pair, bits: int, least: int | None = None) -> Protocol[Replicated]:
    """Pair(p) mod 2^k to Replicated mod 2^bits, exact: `widen`, and the exchange of the twins' halves.

    Condition: that of `widen`; none for bits <= k. Rounds: 2, 1 for bits <= k; bits: `lift_pair_cost`.
    """
    wide = yield from widen(party, y, bits, least)
    found = replicate_pair(party, wide)
    yield
    return found


def lift_pair_cost(elements: int, source: int, bits: int) -> Cost:
    return widen_cost(elements, source, bits) + replicate_pair_cost(elements, bits)
