"""Smooth activations over the whole range: a Fourier window inside, straight lines outside.

y = left + [inside] (x/2 + W(x) - left) + [above] (slope x + right - left), with x/2 where the lines' slopes
differ (docs/protocols.md, "Activations"). One circuit on a coarse reading yields both bits, and each gates a
value that the same pivot and twins hold. The gates follow the series: they cost 2k bits a value there, while
gating each dealt cosine would double all of them. The value inside the window is small whatever x is, so it
keeps a small ring where x is read far out, and x gets a separate ring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Pair, Replicated, Split, Sum3, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.compare import SHORT_BITS, locate, locate_cost
from onnxpuma.mpc.protocols.convert import (
    deal_cost,
    deal_halves,
    pass_on,
    pass_on_cost,
    replicate_pair,
    replicate_pair_cost,
    split,
    split_cost,
)
from onnxpuma.mpc.protocols.fourier import Series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost, gate, gate_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.words import WIDEST, Words, from_integers

READ_FRACTION = 14
LEAST_BITS = 6  # of the coarse reading
_WIDEST_INNER = WIDEST - 4  # bits of the window's ring at most: its series takes a few more
USUAL = 28  # a form with fewer bits at READ_FRACTION is truncated before it is read


@dataclass(frozen=True)
class Reading:
    """How x is read for |x| < `argument`."""

    series: Series
    argument: float
    apart: bool  # x above the window has a separate ring

    @property
    def fraction(self) -> int:
        """Fraction bits in the window: one more where it holds x/2, which is then exact."""
        return READ_FRACTION + (1 if self.series.linear else 0)

    @property
    def place(self) -> int:
        """Bits of the coarse reading."""
        units = self.argument / float(self.series.unit) + self.series.width
        return max(LEAST_BITS, math.ceil(math.log2(units)) + 1)

    @property
    def largest(self) -> float:
        """The |x| up to which the coarse reading and the ring of x are right."""
        place = ((1 << (self.place - 1)) - self.series.width) * float(self.series.unit)
        if not self.series.slope:
            return place
        ring = self.outer - READ_FRACTION if self.apart else self.inner - self.fraction
        return min(place, 2.0 ** (ring - 2))

    @property
    def deep(self) -> bool:
        return self.place > SHORT_BITS

    @property
    def inner(self) -> int:
        """Bits of the window's ring, with a sign and room for the lift."""
        s = self.series
        edge = (s.width / 2 + 1) * float(s.unit)  # the coarse reading blurs it by a unit
        largest = max(abs(s.left), abs(s.right), abs(s.slope) * edge + abs(s.right)) + abs(s.left)
        shared = 0.0 if self.apart or not s.slope else self.argument
        return self.fraction + math.ceil(math.log2(max(largest + 0.25, shared))) + 2

    @property
    def outer(self) -> int:
        """Bits of x's ring above the window; 0 where x shares the window's."""
        if not self.apart:
            return 0
        return READ_FRACTION + max(2, math.ceil(math.log2(self.argument))) + 2

    @property
    def bits(self) -> int:
        """Bits that are read of x."""
        s = self.series
        place = self.place + READ_FRACTION + int(math.log2(s.unit))
        angle = _angle_shift(s) + s.angle_bits
        return max(place, angle, self.inner, self.outer)


def whole_argument(source: Format) -> float:
    """The largest argument that words of this format hold, as they are read."""
    return source.at(max(source.fraction, READ_FRACTION)).largest


def read_for(argument: float | None, source: Format) -> float:
    """The argument to read for: no larger than the words hold; where nothing is known, the largest."""
    whole = whole_argument(source)
    return whole if argument is None else min(argument, whole)


def readable(source: Format) -> int:
    """Bits of a word that remain at READ_FRACTION."""
    return source.bits - max(source.fraction - READ_FRACTION, 0)


@cache
def reading_of(series: Series, argument: float, form: type, source: Format) -> Reading:
    """The cheapest reading for |x| < `argument` of words in this form and format."""
    ways = [Reading(series, argument, apart) for apart in ((False, True) if series.slope else (False,))]
    ways = [way for way in ways if way.bits <= readable(source) and way.inner <= _WIDEST_INNER]
    if not ways:
        raise ProtocolError(f"{series.name} of {argument:g} in words of {source}", "truncate it first")
    return min(ways, key=lambda way: _cost(way, 8, RESTING, form).bits)


def fits(series: Series, source: Format) -> bool:
    """Whether words of this format have enough bits to be read untruncated."""
    return max(USUAL, Reading(series, 1.0, False).bits) <= readable(source)


def activation(
    party: Party,
    x: Replicated | Sum3,
    series: Series,
    pivot: int,
    format: Format,
    argument: float | None = None,
) -> Protocol[Replicated]:
    """The activation of `series` at every element, Replicated in `format`.

    Condition: |x| < `argument`; None: whatever x's format holds (`read_for`). Error: the fit's, about 2^-12
    from rounding the argument and the cosines, and the tail's at the window's edge; docs/protocols.md gives
    figures. Rounds: 5, or 6 far out; bits: `activation_cost`. A product (Sum3) never becomes Replicated: the
    protocol reads only the bits that it needs.
    """
    argument = read_for(argument, x.format)
    form: type = type(x)
    way = reading_of(series, argument, form, x.format)
    # 1. x as Split, at three scales: for the lines, for the coarse reading, for the angle
    seen = split(party, x, pivot, Format(way.bits, READ_FRACTION))
    wide = seen.modulo(way.outer or way.inner)
    if series.slope and wide.halves is None:
        wide = deal_halves(party, wide)
    both: list[Protocol[Any]] = [
        locate(party, _place(seen, series, way.place), series.width, way.deep),
        _inside(party, seen, wide, way),
    ]
    # 2. where x lies, and the value inside the window
    (inside, above), inner = yield from parallel(both)
    # 3. each bit gates its value
    gates = [gate(party, inside, inner)]
    if series.slope:
        gates.append(gate(party, above, wide))
    if series.right != series.left:
        gates.append(arithmetic(party, above, way.inner))
    pairs = yield from parallel(gates)
    total = pairs[0].plus(_constant(series.left, way))
    if series.right != series.left:
        total = total + pairs[-1].times(_constant(series.right - series.left, way), way.fraction)
    if series.slope and not way.outer:
        total = total + _sloped(pairs[1], series, way.fraction)
    # 4. back to the full ring
    parts = [total, _sloped(pairs[1], series, READ_FRACTION)] if way.outer else [total]
    return (yield from _back(party, parts, format))


def _sloped(x: Pair, series: Series, fraction: int) -> Pair:
    up = fraction - READ_FRACTION
    return x.times(from_integers(round(series.slope) << up, x.bits), up)


def _back(party: Party, parts: Sequence[Pair], format: Format) -> Protocol[Replicated]:
    """The sum of these, in `format`."""
    lifts = []
    for part in parts:
        part = part.lowered(max(0, part.fraction - format.fraction))
        lifts.append(lift(party, pass_on(party, part), format.bits - (format.fraction - part.fraction)))
    done = yield from parallel(lifts)
    total, *more = (part.raised(format.fraction - part.fraction) for part in done)
    for other in more:
        total = total + other
    return total


def _place(seen: Split, series: Series, bits: int) -> Split:
    """x in units from the left end of the window."""
    shift = READ_FRACTION + int(math.log2(series.unit))
    half = 0 if series.width % 2 else 1 << (shift - 1)
    offset = (series.width // 2 << shift) - half
    return seen.plus(from_integers(offset, seen.bits)).lowered(shift, bits)


def _angle_shift(series: Series) -> int:
    return READ_FRACTION + series.period_bits + series.speed[1].bit_length() - 1 - series.angle_bits


def _inside(party: Party, seen: Split, wide: Split, way: Reading) -> Protocol[Split]:
    """linear x + W(x) - left, seen from the same pivot. The twins hold halves of `wide`'s A."""
    series, (faster, _) = way.series, way.series.speed
    angle = seen.times(from_integers(faster, seen.bits)) if faster > 1 else seen
    angle = angle.lowered(_angle_shift(series), series.angle_bits)
    pair = yield from evaluate_series(party, series, angle, series.precision, _series_bits(way))
    pair = pair.lowered(pair.fraction - way.fraction).plus(_constant(-series.left, way))
    inner = see(party, replicate_pair(party, pair), angle.pivot)
    if not series.linear:
        return inner
    if series.linear != 0.5:
        raise ProtocolError(f"{series.name} with {series.linear} x", "half of x, or nothing")
    return inner + wide.modulo(way.inner).with_fraction(way.fraction)


def activation_cost(
    series: Series,
    elements: int,
    source: Format,
    format: Format,
    form: type = Sum3,
    argument: float | None = None,
) -> Cost:
    argument = read_for(argument, source)
    return _cost(reading_of(series, argument, form, source), elements, format, form)


def _cost(way: Reading, elements: int, format: Format, form: type) -> Cost:
    series, wide = way.series, way.outer or way.inner
    read = split_cost(elements, way.bits, form).bits
    gates = gate_cost(elements, way.inner)
    if series.slope:
        gates |= gate_cost(elements, wide)
        read += 0 if form is Replicated else deal_cost(elements, wide).bits
    if series.right != series.left:
        gates |= arithmetic_cost(elements, way.inner)
    window = series_cost(series, elements, series.precision, _series_bits(way))
    window = window + replicate_pair_cost(elements, way.inner)
    both = locate_cost(elements, way.place, way.deep) | window | Cost(1, read)
    back = _back_cost(elements, Format(way.inner, way.fraction), format)
    if way.outer:
        back |= _back_cost(elements, Format(way.outer, READ_FRACTION), format)
    return both + gates + back


def _back_cost(elements: int, held: Format, format: Format) -> Cost:
    k = held.bits - max(0, held.fraction - format.fraction)
    target = format.bits - format.fraction + min(held.fraction, format.fraction)
    return lift_cost(elements, k, target) | pass_on_cost(elements, k)


def _series_bits(way: Reading) -> int:
    """Bits of the series' ring: the shift to the scale of the gated values leaves their ring."""
    return result_fraction(way.series, way.series.precision) - way.fraction + way.inner


def _constant(value: float, way: Reading) -> Words:
    """A public number at the scale of the gated values."""
    return from_integers(round(value * (1 << way.fraction)), way.inner)
