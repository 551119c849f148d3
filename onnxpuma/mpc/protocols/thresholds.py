"""How large is x? For each power 4^d, counts that are zero for x < 4^d, and not zero from x = 2 * 4^d on.

Let a and b be the bits 2d of A and B. For x < 4^d all bits of x from 2d on are zero, and the carry into the
bits above 2d is a OR b. So B is the complement of A there if that carry is set, else it is -A: equal to A up
to the lowest set bit, the complement above. Let z be B's lowest set bit at 2d or above. In all cases the bits
above z are complements; and if z is above 2d, A is constant from 2d up to just below z, and differs at z. The
twins know z, so a count of bits that are not as they should be is linear in bits of A and in its changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring.arrays import Indices, constants, indices, joined
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words, resized, word_type


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

    @property
    def dealt(self) -> int:
        """Bits that the pivot deals: A's, and whether A changes there."""
        return 2 * (self.bits - self.first)

    @property
    def count_log(self) -> int:
        """All counts lie below two to this power."""
        return (self.bits - self.first).bit_length()

    @cached_property
    def runs(self) -> list[tuple[slice, int]]:
        """Neighbouring thresholds whose counts lie below the same power of two, and its exponent."""
        logs = [(self.bits - 2 * d - 1).bit_length() for d in range(self.low, self.high)]
        ends = [i + 1 for i in range(self.count) if i + 1 == self.count or logs[i + 1] != logs[i]]
        return [(slice(start, end), logs[start]) for start, end in pairwise([0, *ends])]

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

    @cached_property
    def scale_words(self) -> Words:
        """`scale_steps` in the value's ring."""
        return constants(self.scale_steps, self.bits)

    @cached_property
    def power_words(self) -> Long:
        """`power_steps` in the ring of long words."""
        return Long.constants(self.power_steps)

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


def _twos(step: int) -> int:
    """How often two divides a number other than zero."""
    return (step & -step).bit_length() - 1


def _next_set(words: Words, bits: int) -> Indices:
    """For each place the lowest set bit there or above, or `bits` if there is none: (n, bits)."""
    place = indices(bits)
    there = np.where(_planes(words, place), place, bits)
    return np.minimum.accumulate(there[:, ::-1], axis=1)[:, ::-1]


def _planes(words: Words, places: Indices) -> Words:
    """The bits at these places: (n, places)."""
    return (words[:, None] >> places.astype(words.dtype)) & words.dtype.type(1)


def pivots_bits(t: Thresholds, a: Words) -> Words:
    """What the pivot deals, mod 2^count_log: A's bits above the lowest threshold, and where one differs from
    the bit below it, (n, dealt)."""
    places = indices(t.first, t.bits)
    changes = a ^ (a << a.dtype.type(1))
    return resized(joined([_planes(a, places), _planes(changes, places)], axis=1), t.count_log)


def twins_counts(t: Thresholds, b: Words, first: bool, dealt: Words) -> Words:
    """A twin's share of the counts, (n, thresholds), from its share of `pivots_bits`. first: this is u."""
    width, kind = t.bits - t.first, word_type(t.count_log)
    one, nothing = kind.type(1 if first else 0), kind.type(0)
    bits, changes = dealt[:, :width], dealt[:, width:]
    # 1. how many bits of A from a place on are not complements of B's, and how often A changes below it
    own = resized(_planes(b, indices(t.first, t.bits)), t.count_log)
    equal = (one - bits) + own * (bits + bits - one)
    above = equal[:, ::-1].cumsum(axis=1, dtype=kind)[:, ::-1]
    until = changes.cumsum(axis=1, dtype=kind)
    # 2. bits above z that are not complements
    z = _next_set(b, t.bits)[:, t.places]
    place = z - t.first
    counts = np.where(place + 1 < width, _at(above, place + 1), nothing)
    # 3. changes of A above 2d and below z, and none at z, where z is above 2d
    start = t.places - t.first
    run = np.where(place > 0, _at(until, place - 1), nothing)
    run = run - np.where(start >= 0, _at(until, start + place * 0), nothing)
    run = run + np.where(place < width, one - _at(changes, place), nothing)
    return counts + np.where(place > start, run, nothing)


def _at(words: Words, place: Indices) -> Words:
    """The words at these places along the second axis; the nearest ones for places outside."""
    return np.take_along_axis(words, place.clip(0, words.shape[1] - 1), axis=1)
