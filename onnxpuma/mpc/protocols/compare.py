"""Signs of a value split by a pivot, less public thresholds (docs/protocols.md, "Comparison").

From one deal of products of A's bits the twins compute, for each group of bits, whether it carries and
whether it passes a carry on, whatever public number is subtracted from x. One round joins the carries of all
groups. A wide value would need too many products, so one more round joins blocks of groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Bit, Split
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.boolean import Polynomial, xor
from onnxpuma.mpc.protocols.carry import group_carries, group_carries_cost
from onnxpuma.mpc.protocols.wide import combined, combined_cost

GROUP = 5  # the most bits in a group: 31 products
MOST_GROUPS = 8  # the most groups that one round joins
SHORT_BITS = 18  # values up to here are compared with thresholds in two rounds, longer ones in three


@dataclass(frozen=True)
class Signs:
    """How signs are found: the groups of bits, and the blocks that they form."""

    widths: tuple[int, ...]  # of the groups below the top bit
    block: int  # groups in a block: all of them in a short value
    count: int  # thresholds

    @cached_property
    def first(self) -> tuple[Polynomial, ...]:
        """From groups to blocks, or to the sign where there is one block."""
        return tuple(p for number in range(self.count) for p in _first(len(self.widths), self.block, number))

    @cached_property
    def last(self) -> tuple[Polynomial, ...]:
        """From blocks to the sign."""
        blocks = -(-len(self.widths) // max(self.block, 1))
        return tuple(_last(blocks, number) for number in range(self.count)) if blocks > 1 else ()

    def cost(self, elements: int) -> Cost:
        last = combined_cost(elements, self.last) if self.last else Cost()
        return group_carries_cost(elements, self.widths) + combined_cost(elements, self.first) + last


def _carry(groups: range, start: int) -> list[tuple[int, ...]]:
    """The carry out of these groups, as an XOR of paths."""
    paths: list[tuple[int, ...]] = []
    for group in groups:
        paths = [(start + 2 * group,)] + [(start + 2 * group + 1, *path) for path in paths]
    return paths


def _first(groups: int, block: int, number: int) -> list[Polynomial]:
    start = number * (2 * groups + 1)
    top = (start + 2 * groups,)
    if groups <= block:
        return [xor(top, *_carry(range(groups), start))]
    found: list[Polynomial] = []
    for low in range(0, groups, block):
        members = range(low, min(low + block, groups))
        passes = xor([start + 2 * group + 1 for group in members] if low else ())
        found += [xor(*_carry(members, start)), passes]
    return [*found, xor(top)]


def _last(blocks: int, number: int) -> Polynomial:
    start = number * (2 * blocks + 1)
    return xor((start + 2 * blocks,), *_carry(range(blocks), start))


@cache
def signs_of(bits: int, count: int = 1, deep: bool = False) -> Signs:
    """The cheapest way to find `count` signs of `bits` bits: in two rounds, or `deep` in three."""
    low = bits - 1
    ways = []
    for groups in range(-(-low // GROUP), low + 1):
        widths = tuple((low + place) // groups for place in range(groups))
        if deep and groups > 4:
            ways += [Signs(widths, block, count) for block in (2, 3, 4) if groups <= 5 * block]
        elif groups <= MOST_GROUPS:
            ways.append(Signs(widths, max(groups, 1), count))
    if not ways:
        raise ValueError(f"the sign of {bits} bits takes more than two rounds: ask for a deep one")
    return min(ways, key=lambda way: way.cost(8).bits)


def signs(
    party: Party, x: Split, thresholds: tuple[int, ...], deep: bool = False, way: Signs | None = None
) -> Protocol[list[Bit]]:
    """[x < t] of Split(p) for each public threshold t, by the sign of x - t mod 2^k; exact.

    Masks: those of `group_carries` and `combined`. Rounds: 2, `deep` 3; fewer for a few bits. Bits:
    `signs_cost`.
    """
    way = way or signs_of(x.bits, len(thresholds), deep)
    bits = yield from group_carries(party, x, way.widths, thresholds)
    bits = yield from combined(party, bits, way.first)
    return (yield from combined(party, bits, way.last)) if way.last else bits


@cache
def _price(bits: int, count: int, deep: bool) -> Cost:
    return signs_of(bits, count, deep).cost(1)


def signs_cost(elements: int, bits: int, count: int = 1, deep: bool = False) -> Cost:
    one = _price(bits, count, deep)
    return Cost(one.rounds, one.bits * (packed(elements, 1) // packed(1, 1)))


def is_negative(party: Party, x: Split) -> Protocol[Bit]:
    """[x < 0] of Split(p) mod 2^k, k at most 41; exact. Rounds: 2; bits: `is_negative_cost`."""
    (bit,) = yield from signs(party, x, (0,))
    return bit


def is_negative_cost(elements: int, bits: int) -> Cost:
    return signs_cost(elements, bits)


def wide_negative(party: Party, x: Split) -> Protocol[Bit]:
    """[x < 0] of Split(p) mod 2^k; exact. Rounds: 3, fewer for a few bits; bits: `wide_negative_cost`."""
    (bit,) = yield from signs(party, x, (0,), deep=True)
    return bit


def wide_negative_cost(elements: int, bits: int) -> Cost:
    return signs_cost(elements, bits, deep=True)


def one_round(bits: int) -> Signs:
    """Two signs from one group: one round, and 2^(bits - 1) bits."""
    return Signs((bits - 1,), 1, 2)


def locate(
    party: Party, x: Split, width: int, deep: bool = False, way: Signs | None = None
) -> Protocol[tuple[Bit, Bit]]:
    """([0 <= x < width], [x >= width]) of Split(p), x >= width - 2^(k-1); exact.

    Rounds: 2, `deep` 3; bits: `locate_cost`; or as `way` has them.
    """
    negative, below = yield from signs(party, x, (0, width), deep, way)
    return negative ^ below, ~below


def locate_cost(elements: int, bits: int, deep: bool = False) -> Cost:
    return signs_cost(elements, bits, 2, deep)
