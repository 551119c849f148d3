"""Rows times a factor each, which the twins of a pivot hold, truncated in two rounds.

The next pivot knows its part of the factors before they have reached it whole. So it deals its part of x
times them in the round in which they are passed on. The ring is so wide that what the shift leaves needs no
lift (docs/protocols.md, "Normalisation").
"""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.long_words import (
    LongPair,
    deal_long,
    deal_long_cost,
    pass_on_long,
    pass_on_long_cost,
)
from onnxpuma.mpc.ring.arrays import flat, stacked
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words, reduced, word


def times_factors(
    party: Party, x: Replicated, factors: LongPair, fraction: int, made: Format
) -> Protocol[Replicated]:
    """x, (rows, n), times the factor of each row, (rows,) mod 2^K at `fraction` fraction bits, in `made`.

    Let x be A + B at the next pivot q, mod 2^k, and r = R + S mod 2^K. With a, b the top bits of A + 2^(k-2)
    and of B, x is the integer (A - 2^k a) + (B - 2^k b) + 2^k a b. Its product with R + S is linear in what q
    deals: (A - 2^k a) R and R in K bits; a R, a, and the number of times that A's halves wrap plus a, in
    K - k bits. Masks: F_{q+1} on these, those of `pass_on_long` and `replicate_pair`. Conditions:
    -2^(k-2) <= x < 2^(k-2); K is above k, and no less than the bits of `made` with those that the shift
    drops. Error: below a unit. Rounds: 2; bits: `times_factors_cost`.
    """
    k, wide, shape = x.bits, factors.bits, x.shape
    shift, carry = x.fraction + fraction - made.fraction, wide - k
    # 1. the factors are passed on, and the pivot's part of the products is dealt
    passed = pass_on_long(party, factors)
    seen, role, p = see(party, x, passed.pivot), party.role(passed.pivot), passed.pivot
    widths, power = (wide, carry, carry, carry), Long.constants([1 << k])
    offset = word(1 << (k - 2), k)

    def by_element(rows: Long) -> Long:
        return Long(*(limb.repeat(shape[1]) for limb in (rows.low, rows.high)))

    def top(words: Words) -> Words:
        return words >> word(k - 1, k)

    if role == PIVOT:
        factor = passed.words
        halves = reduced(flat(x.second) + offset, k), reduced(flat(x.first), k)
        both = reduced(halves[0] + halves[1], k)
        a, every = top(both), by_element(factor)
        whole, carried = Long.of_words(both) - Long.of_words(a) * power, Long.of_words(a)
        wraps = Long.of_words((both < halves[0]).astype(both.dtype)) + carried
        columns = [whole * every, carried * every, carried, wraps]
        dealt = (stacked([c.low for c in columns], axis=1), stacked([c.high for c in columns], axis=1))
        deal_long(party, p, Long(*dealt), x.size, widths, 1)
        deal_long(party, p, factor[:, None], shape[0], (wide,))
        yield
        y = LongPair(role, p, None, shape, wide)
    else:
        late = deal_long(party, p, None, x.size, widths, 1)
        later = deal_long(party, p, None, shape[0], (wide,))
        yield
        # 2. the rest of the product
        found, mine, theirs = late.take(), by_element(later.take()[:, 0]), by_element(passed.words)
        half = reduced(flat(x.first) + offset if role == U else flat(x.second), k)
        words = reduced(flat(seen.words), k)
        b = top(words)
        known = Long.of_words(words) - Long.of_words(b) * power - Long.of_words(offset)
        own = Long.of_words(half) - found[:, 3] * power
        both_tops = (found[:, 1] + found[:, 2] * theirs).kept(b) * power
        total = found[:, 0] + mine * known + own * theirs + both_tops
        y = LongPair(role, p, total + known * theirs if role == U else total, shape, wide)
    result = replicate_pair(party, y.lowered(shift, made))
    yield
    return result


def times_factors_cost(rows: int, count: int, bits: int, wide: int, made: int) -> Cost:
    """bits: of x; wide: of the factors' ring; made: of the result's."""
    carry = wide - bits
    dealt = deal_long_cost(rows * count, (wide, carry, carry, carry), 1) | deal_long_cost(rows, (wide,))
    return (pass_on_long_cost(rows, wide) | dealt) + replicate_pair_cost(rows * count, made)
