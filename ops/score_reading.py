"""How the scores of a softmax are read: by which maximum of a row, in which window of exp, in how many bits.

A tournament costs few bytes and three rounds a level; a histogram costs three rounds and more bytes the
further scores lie apart. The maximum need not be exact. The less exact it is, the smaller may the largest
numerator of a row be, and the finer they are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.protocols.exp_softmax import NARROW, WIDE, Window
from onnxpuma.mpc.protocols.histogram import Histogram

FINE = 15  # fraction bits of the score that exp reads
COARSE = 0  # fraction bits of the reading for a tournament: units
LEAST_READ = 20  # the least `sum_read`
_MOST_BUCKETS = 9  # the logarithm of the most that a pivot deals for an element
_FINE_EDGES = 2  # the logarithm of the most edges in a bucket
_BLURS = ((NARROW, 2.0), (WIDE, 6.0))  # each window, and how far apart `above` and `below` may lie


@dataclass(frozen=True)
class Reading:
    """Scores of a row lie less than `spread` apart."""

    spread: float
    # None: a tournament.
    peak: Histogram | None = None
    window: Window = NARROW
    # The tournament is played by fours.
    fours: bool = False
    # Powers are dealt in a ring so wide that numerators need no lift.
    wide: bool = False

    @property
    def above(self) -> float:
        """The maximum lies less than this above m, the number that is subtracted."""
        return 1.0 if self.peak is None else self.peak.above

    @property
    def below(self) -> float:
        """The maximum lies less than this below m."""
        return 1.0 if self.peak is None else self.peak.below

    @property
    def blur(self) -> float:
        return self.above + self.below

    @property
    def coarse_bits(self) -> int:
        """Bits of the coarse reading for a tournament."""
        return max(7, math.ceil(math.log2(self.spread)) + COARSE + 1)

    @property
    def digit_bits(self) -> int:
        """Bits of the digits of a score less m."""
        return self.window.digit_bits(self.spread + self.blur)

    @property
    def shifted_bits(self) -> int:
        """Bits of a score less m."""
        return FINE + self.window.unit + self.digit_bits

    @property
    def bits(self) -> int:
        """Bits of a score that are read."""
        first = FINE + (self.coarse_bits - COARSE if self.peak is None else self.peak.span)
        return max(first, self.shifted_bits)

    @property
    def priced(self) -> Reading:
        """The first of all readings of equal cost: of the spread, only the bits that it takes count."""
        bits = self.coarse_bits, self.digit_bits
        return _priced.setdefault((bits, self.peak, self.window, self.fours, self.wide), self)

    @property
    def offset(self) -> float:
        """What is added to a score less m, so that it lies below the top of the window."""
        return self.window.top - self.above

    @property
    def farthest(self) -> float:
        """The largest distance of two scores that is read: each is off by about a unit."""
        least = self.window.top * ((1 << self.digit_bits) - 1) - self.blur - 1
        found = 2.0 ** (self.coarse_bits - COARSE - 1) - 2 if self.peak is None else self.peak.spread - 1
        return min(found, least)

    @property
    def numerator(self) -> int:
        """Fraction bits of a numerator."""
        return 22 if self.window == NARROW else 26

    @property
    def least_sum(self) -> float:
        """A row's sum is larger."""
        return 0.96 * math.exp(-self.blur)

    @property
    def more(self) -> int:
        """Fraction bits that a sum of numerators times values keeps in addition, before it is divided."""
        return 0 if self.window == NARROW else max(0, math.ceil(self.blur * math.log2(math.e)) - 3)

    def sum_read(self, ring: int) -> int:
        """Fraction bits of the reciprocal of a row's sum: times a numerator, it leaves 4 above the point."""
        return min(24, ring - 4 - self.numerator)


_priced: dict[Hashable, Reading] = {}  # few: windows and histograms are few, and bits are small numbers


def farthest_apart(spread: float) -> float:
    """The largest distance that every reading for this spread covers."""
    return Reading(spread).farthest


def histograms(spread: float, format: Format, ring: int, fine: bool) -> list[Reading]:
    """The readings by a histogram that scores in this format allow.

    fine: numerators may be finer, and their sums smaller, for values in a ring of this many bits.
    """
    found, seen = [], set()
    held, apart = format.bits - max(format.fraction - FINE, 0), farthest_apart(spread)
    for window, blur in _BLURS if fine and ring >= RESTING.bits else _BLURS[:1]:
        for edges in range(_FINE_EDGES + 1):
            width = math.floor(math.log2(blur / (1 + 2.0**-edges)))
            reach = apart + 1 + 2.0**width * (1 + 2.0**-edges)
            span = math.ceil(math.log2(2 * reach))
            one = Reading(spread, Histogram(span, span - width, edges), window)
            if span - width <= _MOST_BUCKETS and one.bits <= held and one.farthest >= apart:
                if (window, width) not in seen:
                    found.append(one)
                seen.add((window, width))
    return found
