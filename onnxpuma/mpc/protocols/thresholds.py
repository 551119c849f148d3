"""How large is x? For each power 4^d, counts that are zero for x < 4^d, and not zero from x = 2 * 4^d on.

Let a and b be the bits 2d of A and B. For x < 4^d all bits of x from 2d on are zero, and the carry into the
bits above 2d is a OR b. So B is the complement of A there if that carry is set, else it is -A: equal to A up
to the lowest set bit, the complement above. Let z be B's lowest set bit at 2d or above. In all cases the bits
above z are complements; and if z is above 2d, A is constant from 2d up to just below z, and differs at z. The
twins know z, the pivot knows up to where A is constant; both numbers are compared bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring.arrays import Indices, indices, integers, joined
from onnxpuma.mpc.ring.words import Words, from_integers, resized, word_type

MOST_LOG = 6  # the table that says which counts are zero is one word


class Power(Enum):
    """What undoes a scaling by 4^(high - d)."""

    INVERSE_ROOT = "2^(high - d)"
    INVERSE = "4^(high - d)"
    ROOT = "2^(d - low)"
    EXPONENT = "high - d"

    def at(self, d: int, low: int, high: int) -> int:
        if self is Power.EXPONENT:
            return high - d
        if self is Power.ROOT:
            return 1 << (d - low)
        return 1 << (high - d) * (2 if self is Power.INVERSE else 1)


@dataclass(frozen=True)
class Thresholds:
    """The powers 4^d for d in [low, high), of a value mod 2^bits; and the power that undoes the scaling."""

    low: int
    high: int
    bits: int
    power: Power
    # Of the power's ring.
    power_bits: int
    # Bits of the ring in which the lowest bit is wanted alone, where the power is zero if it is set.
    cleared: int = 0

    def __post_init__(self) -> None:
        if self.bits % 2 or not 0 < self.low < self.high or 2 * self.high + 2 > self.bits:
            raise ProtocolError(
                f"thresholds 4^{self.low} to 4^{self.high} of {self.bits} bits",
                "1 <= low < high <= bits / 2 - 1",
            )
        if self.count_log > MOST_LOG:
            raise ProtocolError(f"counts of {self.bits} bits above 4^{self.low}", "62 bits of a value")

    @property
    def count(self) -> int:
        return self.high - self.low

    @cached_property
    def places(self) -> Indices:
        """The place 2d of each threshold."""
        return 2 * indices(self.low, self.high)

    @property
    def first(self) -> int:
        """The lowest place whose bit is dealt: they are compared above every threshold."""
        return 2 * self.low + 1

    @cached_property
    def compared(self) -> tuple[Indices, Indices, Indices]:
        """The bits of the numbers up to where A is constant, threshold after threshold: the threshold of each
        bit, its place in the number, and where each threshold's bits begin."""
        lengths = [_bits_of(self.bits - int(place) - 1) for place in self.places]
        starts = integers([sum(lengths[:i]) for i in range(self.count)])
        bit = joined([indices(length) for length in lengths])
        return indices(self.count).repeat(lengths), bit, starts

    @property
    def count_log(self) -> int:
        """The counts lie below two to this power."""
        return _count_log(self.bits - self.first)

    @cached_property
    def scale_steps(self) -> list[int]:
        """4^high plus the weighted sum of the bits is 4^high times the scale: weights of 4^(high - d)."""
        return [3 << 2 * (self.high - d - 1) for d in range(self.low, self.high)]

    @cached_property
    def power_steps(self) -> list[int]:
        """`power_rest` plus the weighted sum of the bits is the power of the lowest threshold that holds."""
        powers = [self.power.at(d, self.low, self.high) for d in range(self.low, self.high + 1)]
        if self.cleared:
            powers[0] = 0
        return [here - above for here, above in pairwise(powers)]

    @property
    def power_rest(self) -> int:
        """The power where no threshold holds."""
        return self.power.at(self.high, self.low, self.high)

    @cached_property
    def power_widths(self) -> list[int]:
        """Bits in which the bit of each threshold is needed for the power: its weight supplies the rest."""
        return [max(1, self.power_bits - _twos(step)) for step in self.power_steps]

    @cached_property
    def scale_widths(self) -> list[int]:
        """The same for the value."""
        return [self.bits - _twos(step) for step in self.scale_steps]

    @cached_property
    def bit_widths(self) -> list[int]:
        """The same for both."""
        both = [max(widths) for widths in zip(self.power_widths, self.scale_widths, strict=True)]
        return [max(both[0], self.cleared), *both[1:]]


def _bits_of(largest: int) -> int:
    return largest.bit_length()


def _twos(step: int) -> int:
    """How often two divides a number other than zero."""
    return (step & -step).bit_length() - 1


@lru_cache(maxsize=64)
def _count_log(above: int) -> int:
    """Bits of the largest count with this many bits above a threshold, or fewer."""
    number = indices(above + 1)
    apart = sum(((number[:, None] ^ number) >> bit) & 1 for bit in range(_bits_of(above)))
    most = int((np.maximum(above - 1 - number, 0) + np.max(apart, axis=1)).max())
    return max(most, above).bit_length()


def _next_set(words: Words, bits: int) -> Indices:
    """For each place the lowest set bit there or above, or `bits` if there is none: (n, bits)."""
    place = indices(bits)
    there = np.where(_planes(words, place), place, bits)
    return np.minimum.accumulate(there[:, ::-1], axis=1)[:, ::-1]


def _planes(words: Words, places: Indices) -> Words:
    """The bits at these places: (n, places)."""
    return (words[:, None] >> places.astype(words.dtype)) & words.dtype.type(1)


def pivots_bits(t: Thresholds, a: Words) -> tuple[Words, Words]:
    """What the pivot deals, mod 2^count_log: A's bits above the lowest threshold, (n, bits), and for each
    threshold the bits of the length up to which A is constant, less one, (n, compared bits)."""
    row, bit, _ = t.compared
    changes = a ^ (a << a.dtype.type(1))
    lengths = (_next_set(changes, t.bits)[:, t.places + 1] - t.places - 1)[:, row]
    bits = _planes(a, indices(t.first, t.bits))
    return resized(bits, t.count_log), from_integers((lengths >> bit) & 1, t.count_log)


def twins_counts(t: Thresholds, b: Words, first: bool, bits: Words, lengths: Words) -> Words:
    """A twin's share of the counts, (n, thresholds), from its shares of `pivots_bits`. first: this is u."""
    kind, row, bit, starts = word_type(t.count_log), *t.compared
    one = kind.type(1 if first else 0)

    def unequal(mine: Words, dealt: Words) -> Words:
        return dealt + mine.astype(kind) * (one - dealt - dealt)

    # 1. bits of B that equal A's, where they should be complements: of all bits from a place on
    equal = one - unequal(_planes(b, indices(t.first, t.bits)), bits)
    above = equal[:, ::-1].cumsum(axis=1, dtype=kind)[:, ::-1]
    # 2. those above z
    z = _next_set(b, t.bits)[:, t.places]
    place = z + 1 - t.first
    counts = np.take_along_axis(above, np.minimum(place, above.shape[1] - 1), axis=1)
    counts = np.where(place < above.shape[1], counts, kind.type(0))
    # 3. the length up to z, where it is not empty
    length = z - t.places - 1
    apart = np.add.reduceat(
        unequal(from_integers((length[:, row] >> bit) & 1, t.count_log), lengths), starts, axis=1, dtype=kind
    )
    return counts + np.where(length >= 0, apart, kind.type(0))
