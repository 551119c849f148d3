"""The largest of each group of four, in three rounds (docs/protocols.md, "Maximum").

All six comparisons of a group run side by side. An element wins where its comparisons say so: a product
of shared bits. The pivot deals the products of their masks, alone and times the differences of A, so
that the winner follows in one more round, and with it whatever belongs to it, such as its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import combinations
from operator import mul

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.compare import signs, signs_cost
from onnxpuma.mpc.protocols.convert import deal, deal_cost, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.ring.arrays import contiguous, indices, nothing, unpacked, zeros
from onnxpuma.mpc.ring.arrays import stacked as beside
from onnxpuma.mpc.ring.words import Words, resized, word

GROUP = 4
MOST_SHORT = 41  # bits of a sign that takes two rounds; a longer one takes three


@dataclass(frozen=True)
class _Match:
    """The comparisons of a group of `size` elements, and which of them make an element win.

    The winner is the last element, plus a lead over it where an earlier one wins.
    """

    size: int

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(i, j): the bit is [x_i < x_j]."""
        return tuple(combinations(range(self.size), 2))

    @cached_property
    def sides(self) -> tuple[list[int], list[int]]:
        """All i and all j of `pairs`."""
        first, second = zip(*self.pairs, strict=True)
        return list(first), list(second)

    @cached_property
    def wins(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each element but the last its comparisons: the pair, and the value that its bit must have."""
        return tuple(
            tuple((number, int(pair[1] == place)) for number, pair in enumerate(self.pairs) if place in pair)
            for place in range(self.size - 1)
        )

    @cached_property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """The non-empty sets of an element's comparisons."""
        count = self.size - 1
        return tuple(c for size in range(1, count + 1) for c in combinations(range(count), size))

    @cached_property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of pairs whose masks are multiplied, each once."""
        return tuple(
            dict.fromkeys(self.chosen(place, c) for place in range(self.size - 1) for c in self.choices)
        )

    @cached_property
    def terms(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """(element, set of its comparisons): the products that are dealt."""
        return tuple((place, c) for place in range(self.size - 1) for c in self.choices)

    def chosen(self, place: int, choice: tuple[int, ...]) -> tuple[int, ...]:
        """The pairs of these comparisons of an element."""
        return tuple(self.wins[place][t][0] for t in choice)


@cache
def _match(size: int) -> _Match:
    return _Match(size)


def grouped(x: Replicated) -> Replicated:
    """(rows, n) -> (rows, groups, 4); the last element is repeated, and loses to itself."""
    return x.map(grouped_words)


def grouped_words(words: Words) -> Words:
    rows, length = words.shape
    groups = -(-length // GROUP)
    if groups * GROUP > length:
        place = indices(groups * GROUP)
        place[length:] = length - 1
        words = words[:, place]
    return words.reshape(rows, groups, GROUP)


def largest_of_four(
    party: Party, values: Replicated, places: Replicated | Words, pivot: int, bits: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """The largest of each group of values (..., 4) mod 2^k, and the number that stands at its place, of
    `places` (..., 4): secret, or public words; mod 2^bits.

    Conditions: two elements of a group differ by less than 2^(k-1). Exact; of equal elements the first. The
    results may still be on their way when this returns. The last axis may have another length, which costs
    more from five on. Masks: those of `signs`, `_won` and `replicate_pair`.
    Rounds: 4 (5 for k above MOST_SHORT), of which the first is one way from the pivot, which knows its part
    at once; bits: `largest_of_four_cost`.
    """
    seen = see(party, values, pivot)
    numbers = see(party, places, pivot) if isinstance(places, Replicated) else places
    # 1. all comparisons; 2. the winner by their products
    loses = yield from _comparisons(party, seen)
    value, place = yield from _won(party, loses, seen, numbers, bits)
    assert place is not None
    return replicate_pair(party, value), replicate_pair(party, place)


def largest_of_four_cost(groups: int, bits: int, place_bits: int, public: bool) -> Cost:
    """public: the places are."""
    match = _match(GROUP)
    total = signs_cost(len(match.pairs) * groups, bits, deep=bits > MOST_SHORT)
    dealt = packed(len(match.sets) * groups, max(bits, place_bits))
    for k in (bits,) if public else (bits, place_bits):
        dealt += deal_cost(len(match.terms) * groups, k).bits
    total = total + Cost(1, dealt + 2 * packed(len(match.pairs) * groups, 1))
    return total + (replicate_pair_cost(groups, bits) | replicate_pair_cost(groups, place_bits))


def largest_value(party: Party, x: Split) -> Protocol[Pair]:
    """`largest_of_four` without places: of Split(p) whose A the twins hold in halves, (..., 4), as Pair(p).

    Rounds: 3, the first one way from the pivot; bits: `largest_value_cost`.
    """
    loses = yield from _comparisons(party, x)
    return (yield from _won(party, loses, x, None, x.bits))[0]


def largest_value_cost(groups: int, bits: int) -> Cost:
    match = _match(GROUP)
    dealt = packed(len(match.sets) * groups, bits) + deal_cost(len(match.terms) * groups, bits).bits
    won = Cost(1, dealt + 2 * packed(len(match.pairs) * groups, 1))
    return signs_cost(len(match.pairs) * groups, bits, deep=bits > MOST_SHORT) + won


def _differences(x: Split, left: Sequence[int], right: Sequence[int]) -> Split:
    """x[left] - x[right] along the last axis."""
    return x.map(lambda w: w[..., left] - w[..., right], shape=(*x.shape[:-1], len(left)))


def _comparisons(party: Party, x: Split) -> Protocol[Bit]:
    """[x_i < x_j] of all pairs of a group, (..., pairs)."""
    leads = _differences(x, *_match(x.shape[-1]).sides)
    (loses,) = yield from signs(party, leads, (0,), deep=x.bits > MOST_SHORT)
    return loses


def _won(
    party: Party, loses: Bit, values: Split, places: Split | Words | None, bits: int
) -> Protocol[tuple[Pair, Pair | None]]:
    """The value and the place (..., n) that win by the bits [x_i < x_j], (..., pairs), as Pair(p).

    Masks: the pivot's rho of each bit by one bit of F_{p+1} and one of F_p; F_{p+1} on the dealt words.
    Rounds: 1.
    """
    p, role, size, shape = loses.pivot, loses.role, loses.size, loses.shape[:-1]
    match = _match(values.shape[-1])
    wide, last = max(values.bits, bits), match.size - 1
    secret = [values, *([places] if isinstance(places, Split) else [])]
    apart = [[x[..., i] - x[..., last] for i in range(last)] for x in secret]
    of_sets, of_terms = (len(match.sets), *shape), (len(match.terms), *shape)
    if role == PIVOT:
        # 1. the products of masks, and these times the differences of A
        plane = party.draw_planes(p + 1, 1, size) ^ party.draw_planes(p, 1, size)
        products = _products(match, resized(_by_pair(plane[0], loses.shape), wide))
        deal(party, p, beside(products.values()), of_sets, wide)
        for x, leads in zip(secret, apart, strict=True):
            dealt = [
                resized(products[match.chosen(place, choice)], x.bits) * leads[place].words
                for place, choice in match.terms
            ]
            deal(party, p, beside(dealt), of_terms, x.bits)
        yield
        made = [Pair(role, p, nothing(shape, k), Format(k, 0)) for k in (values.bits, bits)]
        return made[0].with_fraction(values.fraction), made[1]
    mask = party.draw_planes(p + 1 if role == U else p, 1, size)[0]
    late_sets = deal(party, p, None, of_sets, wide)
    late = [deal(party, p, None, of_terms, x.bits) for x in secret]
    # 2. the twins open the bits under the masks
    mine, other = loses.plane ^ mask, p + (V if role == U else U)
    party.send(other, mine, 8)
    theirs = party.expect(other, mine.shape, 8)
    yield
    opened = _by_pair(mine ^ theirs.take(), loses.shape)
    won = _Won(role, match, opened, dict(zip(match.sets, taken(late_sets), strict=True)))
    # 3. the last element, plus each lead where the opened bits and the products of masks say so
    found = []
    for x, leads, words in zip(secret, apart, late, strict=True):
        lead = won.lead([(d.words, d.half) for d in leads], taken(words), x.bits)
        found.append(Pair(role, p, lead, x.format).plus_split(x[..., last]))
    if isinstance(places, Split):
        return found[0], found[1]
    if places is None:
        return found[0], None
    known = [(places[..., i] - places[..., last], None) for i in range(last)]
    place = Pair(role, p, won.lead(known, None, bits), Format(bits, 0))
    return found[0], place.plus(places[..., last])


def _by_pair(plane: Words, shape: tuple[int, ...]) -> Words:
    """Packed bits (..., pairs) as bytes (pairs, ...)."""
    return contiguous(unpacked(plane, math.prod(shape)).reshape(-1, shape[-1]).T).reshape(-1, *shape[:-1])


def _products(match: _Match, rho: Words) -> dict[tuple[int, ...], Words]:
    return {pairs: reduce(mul, (rho[pair] for pair in pairs)) for pairs in match.sets}


@dataclass(frozen=True)
class _Won:
    """What a twin knows of the comparisons."""

    role: int
    match: _Match
    # The bits under the pivot's masks, (pairs, ...).
    opened: Words
    # This twin's halves of the products of masks.
    sets: dict[tuple[int, ...], Words]

    def lead(self, leads: Sequence[tuple[Words, Words | None]], dealt: Words | None, bits: int) -> Words:
        """This twin's half of the winner's lead over the last element.

        leads: of each element B, and this twin's half of A; None where A is zero, so that nothing is dealt.
        """
        total, row = zeros(self.opened.shape[1:], bits, self.opened), 0
        for place, (b, half) in enumerate(leads):
            # a comparison says so where bit = due, that is where (opened xor not due) xor rho is one
            known = [
                resized(self.opened[pair] ^ word(1 - due, 8), bits) for pair, due in self.match.wins[place]
            ]
            flips = [word(1, bits) - (k + k) for k in known]
            mine = half if self.role == V else b if half is None else half + b
            if mine is not None:
                total += reduce(mul, known) * mine
            for choice in self.match.choices:
                factor = reduce(mul, [flips[t] if t in choice else known[t] for t in range(len(known))])
                share = resized(self.sets[self.match.chosen(place, choice)], bits) * b
                total += factor * (share if dealt is None else share + dealt[row])
                row += 1
        return total
