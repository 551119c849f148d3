"""A word as a number from zero on, in a larger ring: exact for every word (docs/protocols.md, "Order").

A lift counts on a range; this one has no condition, so that two words have one order whatever they are.
"""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import deal, deal_cost, replicate_pair, replicate_pair_cost, settle
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost
from onnxpuma.mpc.ring.words import Words, from_integers, reduced, resized, word_type


def unsigned(party: Party, x: Replicated, bits: int, pivot: int) -> Protocol[Replicated]:
    """The number in [0, 2^k) that is x mod 2^k, Replicated mod 2^bits, bits > k; exact, for every x.

    Masks: F_{p+1} on the pivot's carry, those of `wide_negative`, `arithmetic` and `replicate_pair`.
    Rounds: 5, fewer for a few bits; bits: `unsigned_cost`.
    """
    p, role, k, shape = pivot, party.role(pivot), x.bits, x.shape
    more = bits - k
    # 1. the pivot deals whether its two components exceed 2^k
    wraps: Words | None = None
    if role == PIVOT:
        own = reduced(x.total, k)
        wraps = (own < reduced(x.first, k)).astype(word_type(more))
    else:
        own = reduced(x.second if role == U else x.first, k)
    late = deal(party, p, wraps, shape, more)
    # 2. A and B exceed it where A + B - 2^k is not negative
    both = Split(role, p, resized(own, k + 1), Format(k + 1, 0)).plus(from_integers(-(1 << k), k + 1))
    below = yield from wide_negative(party, both)
    carry = yield from arithmetic(party, ~below, more)
    total = carry + Pair(role, p, taken(late), carry.format)
    # 3. the three components as numbers, less both carries
    carries = yield from settle(party, replicate_pair(party, total))

    def widened(words: Words, carried: Words) -> Words:
        above = resized(reduced(carried, more), bits) << word_type(bits).type(k)
        return resized(reduced(words, k), bits) - above

    first, second = widened(x.first, carries.first), widened(x.second, carries.second)
    return Replicated(party.index, first, second, Format(bits, x.fraction))


def unsigned_cost(elements: int, source: int, bits: int) -> Cost:
    more = bits - source
    found = wide_negative_cost(elements, source + 1) + arithmetic_cost(elements, more)
    return found + Cost(0, deal_cost(elements, more).bits) + replicate_pair_cost(elements, more)
