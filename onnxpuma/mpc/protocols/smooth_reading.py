"""How an activation reads its argument, and the rings of its parts (docs/protocols.md, "Activations").

A ramp is zero on the left and x on the right of the window (GELU, SiLU); a step is a constant on either side
(tanh, sigmoid). Everything here follows from public numbers and is the same at all three parties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split
from onnxpuma.mpc.protocols.compare import SHORT_BITS, Signs, locate_cost, one_round
from onnxpuma.mpc.protocols.convert import deal_cost, replicate_pair_cost, split_cost
from onnxpuma.mpc.protocols.fourier import Series, result_fraction, series_cost
from onnxpuma.mpc.protocols.gate import arithmetic_cost, gate_cost
from onnxpuma.mpc.protocols.lifting_gate import lifting_gate_cost
from onnxpuma.mpc.protocols.widen import widen_cost

LEAST_BITS = 6  # of the coarse reading
MOST_AT_ONCE = 10  # bits of the coarse reading that one group compares in one round
USUAL = 28  # a form with fewer bits at the fraction that is read is truncated before it is read
MARGIN = 1 / 64  # more than the errors of the fit and of its rounding


class Way(Enum):
    """How the gated values reach the ring of the result."""

    APART = "apart"  # each is gated in its own ring, and then widened
    JOINED = "joined"  # the gate lifts the value inside to the ring of x, and the sum is widened
    STRAIGHT = "straight"  # the gates lift to the ring of the result: a round less
    TERMS = "terms"  # as joined, and the sum stays at the twins, for a product that reads it so


@dataclass(frozen=True)
class Reading:
    """How x is read for |x| < `argument`."""

    series: Series
    argument: float
    way: Way = Way.APART
    quick: bool = False  # one group compares the coarse reading

    @cached_property
    def name(self) -> str:
        return self.way.value + (", compared at once" if self.quick else "")

    @cached_property
    def ramp(self) -> bool:
        s = self.series
        if (s.slope, s.linear, s.left, s.right) == (1.0, 0.5, 0.0, 0.0):
            return True
        if (s.slope, s.linear) == (0.0, 0.0):
            return False
        raise ProtocolError(f"{s.name} between its lines", "x/2 and a ramp, or nothing and two constants")

    @cached_property
    def fraction(self) -> int:
        """Fraction bits of the gated values: one more where x/2 is among them, which is then exact."""
        return self.series.read + (1 if self.ramp else 0)

    @cached_property
    def place(self) -> int:
        """Bits of the coarse reading."""
        units = self.argument / float(self.series.unit) + self.series.width
        return max(LEAST_BITS, math.ceil(math.log2(units)) + 1)

    @cached_property
    def found(self) -> Signs | None:
        return one_round(self.place) if self.quick else None

    @cached_property
    def deep(self) -> bool:
        return self.place > SHORT_BITS

    @cached_property
    def largest(self) -> float:
        """The |x| up to which the coarse reading and the ring of x are right."""
        place = ((1 << (self.place - 1)) - self.series.width) * float(self.series.unit)
        return min(place, 2.0 ** (self.outer - 1 - self.series.read) - 1) if self.ramp else place

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The least and the largest of the series in the window, and of a step's constants, less `left`."""
        s = self.series
        constants = () if self.ramp else (s.left, s.right)
        low, high = min(s.least, *constants, math.inf), max(s.most, *constants, -math.inf)
        return low - MARGIN - s.left, high + MARGIN - s.left

    @cached_property
    def window(self) -> int:
        """Bits of the series' ring where it stands alone: twice as many values as the series may have."""
        low, high = self.ends
        return self.fraction + 1 + math.ceil(math.log2(high - low))

    @cached_property
    def inner(self) -> int:
        """Bits of a ring that holds the value inside the window."""
        edge = (self.series.width + 1) / 2 * float(self.series.unit)  # the coarse reading blurs it
        return self.fraction + 1 + math.ceil(math.log2(edge + 1)) if self.ramp else self.window

    @cached_property
    def outer(self) -> int:
        """Bits of a ring that holds x above the window, at `read` fraction bits."""
        return self.series.read + 1 + math.ceil(math.log2(self.argument + 1))

    @cached_property
    def joint(self) -> int:
        """Bits of a ring that holds both, at `fraction` fraction bits."""
        return (max(self.outer, self.window) if self.way is Way.TERMS else self.outer) + 1

    @cached_property
    def joins(self) -> bool:
        """Whether the gate of the value inside lifts it to the ring of x."""
        return self.way in (Way.JOINED, Way.TERMS)

    @cached_property
    def above(self) -> int:
        """Bits of x, at `read` fraction bits, as the gate above the window yields it."""
        return self.joint - 1 if self.joins else self.outer

    @cached_property
    def wide(self) -> int:
        """Bits of x that are gated."""
        return self.joint if self.joins else max(self.inner, self.outer)

    @cached_property
    def ring(self) -> int:
        """Bits of the ring in which the series becomes Replicated."""
        return self.window if self.joins else self.inner

    @cached_property
    def angle_shift(self) -> int:
        s = self.series
        return s.read + s.period_bits + s.speed[1].bit_length() - 1 - s.angle_bits

    @cached_property
    def bits(self) -> int:
        """Bits that are read of x."""
        s = self.series
        place = self.place + s.read + int(math.log2(s.unit))
        return max(place, self.angle_shift + s.angle_bits, self.wide if self.ramp else 0)

    @cached_property
    def series_bits(self) -> int:
        """Bits of the series' ring: the shift to the scale of the gated values leaves their ring."""
        return result_fraction(self.series, self.series.precision) - self.fraction + self.ring

    def result(self, format: Format) -> int:
        """Bits of the result's ring at `fraction`, or at the result's fraction if that has fewer bits."""
        return format.bits - max(format.fraction - self.fraction, 0)

    def fits(self, source: Format, format: Format) -> bool:
        """Whether words of these formats have the bits that this way reads and yields."""
        if self.bits > readable(self.series, source) or (self.quick and self.place > MOST_AT_ONCE):
            return False
        if self.joins:
            return self.ramp and self.joint > self.window
        largest = max(self.inner, self.joint) if self.ramp else self.inner
        return self.way is Way.APART or (self.fraction <= format.fraction and largest < self.result(format))

    def cost(self, elements: int, format: Format, form: type) -> Cost:
        read = split_cost(elements, self.bits, form).bits
        found = self.found.cost(elements) if self.found else locate_cost(elements, self.place, self.deep)
        both = series_cost(self.series, elements, self.series.precision, self.series_bits) | found
        more = replicate_pair_cost(elements, self.ring).bits
        if self.ramp and self.way is not Way.STRAIGHT and form is not Replicated:
            more += deal_cost(elements, self.wide).bits
        gates, back = self._gates(elements, format)
        found = both + gates + back + Cost(0, read + more)
        return found if self.way is Way.TERMS else found + replicate_pair_cost(elements, self.result(format))

    def _gates(self, elements: int, format: Format) -> tuple[Cost, Cost]:
        """Of the gates, and of the way from them to the ring of the result."""
        result, over = self.result(format), max(self.fraction - format.fraction, 0)
        if not self.ramp and self.way is Way.STRAIGHT:
            gates = lifting_gate_cost(elements, self.ring, result) | arithmetic_cost(elements, result)
            return gates, Cost()
        if not self.ramp:
            gates = gate_cost(elements, self.ring) | arithmetic_cost(elements, self.ring)
            return gates, widen_cost(elements, self.ring - over, result)
        if self.way is Way.STRAIGHT:
            inside = lifting_gate_cost(elements, self.inner, result, Split)
            return inside | lifting_gate_cost(elements, self.outer, result - 1, Split), Cost()
        above = gate_cost(elements, self.above)
        if self.joins:
            both = lifting_gate_cost(elements, self.window, self.joint) | above
            back = FREE if self.way is Way.TERMS else widen_cost(elements, self.joint - over, result)
            return both, back
        parts = widen_cost(elements, self.inner - over, result)
        parts |= widen_cost(elements, self.joint - over, result)
        return gate_cost(elements, self.inner) | above, parts


def readable(series: Series, source: Format) -> int:
    """Bits of a word that remain at the fraction that is read."""
    return source.bits - max(source.fraction - series.read, 0)


def whole_argument(source: Format) -> float:
    """The largest argument that words of this format hold, as they are read."""
    return source.at(max(source.fraction, Series.read)).largest


def read_for(argument: float | None, source: Format) -> float:
    """The argument to read for: no larger than the words hold; where nothing is known, the largest."""
    whole = whole_argument(source)
    return whole if argument is None else min(argument, whole)


def every_reading(series: Series, argument: float | None, source: Format, format: Format) -> list[Reading]:
    """All ways to read |x| < `argument` of words in `source` for a result in `format`."""
    ways = _fitting([way for way in Way if way is not Way.TERMS], series, argument, source, format)
    if not ways:
        below = read_for(argument, source)
        raise ProtocolError(f"{series.name} of {below:g} in words of {source}", "truncate it first")
    return ways


def _fitting(
    ways: Sequence[Way], series: Series, argument: float | None, source: Format, format: Format
) -> list[Reading]:
    below = read_for(argument, source)
    found = [Reading(series, below, way, quick) for way in ways for quick in (False, True)]
    return [way for way in found if way.fits(source, format)]


@cache
def readings_to_terms(series: Series, argument: float | None, source: Format) -> tuple[Reading, ...]:
    """The ways that leave the activation at the twins; none for a step, or an argument that is too large."""
    return tuple(_fitting([Way.TERMS], series, argument, source, source))


@cache
def readings(
    series: Series, argument: float | None, form: type, source: Format, format: Format
) -> tuple[Reading, ...]:
    """Those worth their bits: the one of the fewest bits first, then those that have fewer rounds."""
    costs = {way: way.cost(8, format, form) for way in every_reading(series, argument, source, format)}
    found: list[Reading] = []
    for way in sorted(costs, key=lambda way: (costs[way].bits, costs[way].rounds)):
        if not found or costs[way].rounds < costs[found[-1]].rounds:
            found.append(way)
    return tuple(found)


def fits(series: Series, source: Format) -> bool:
    """Whether words of this format have enough bits to be read untruncated."""
    return max(USUAL, Reading(series, 1.0).bits) <= readable(series, source)
