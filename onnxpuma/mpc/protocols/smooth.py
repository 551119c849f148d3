"""Smooth activations over the whole range: a Fourier window inside, straight lines outside.

W is the series. A ramp is [inside] (x/2 + W(x)) + [above] x; a step is left + [inside] (W(x) - left) +
[above] (right - left) (docs/protocols.md, "Activations"). One circuit on a coarse reading yields both bits.
Each gates a value that the same pivot and twins hold. The gates follow the series, where they cost two words
a value; gating each dealt cosine would double all of them. The value inside the window is small whatever x
is, and has a small ring.
"""

from __future__ import annotations

import math
from typing import Any

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split, Sum3, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.compare import locate
from onnxpuma.mpc.protocols.convert import deal_halves, replicate_pair, split
from onnxpuma.mpc.protocols.fourier import Series, evaluate_series
from onnxpuma.mpc.protocols.gate import arithmetic, gate
from onnxpuma.mpc.protocols.lifting_gate import lifting_gate
from onnxpuma.mpc.protocols.smooth_reading import Reading, Way, readings
from onnxpuma.mpc.protocols.widen import widen
from onnxpuma.mpc.ring.words import from_integers

LEAST = -0.5  # no ramp is less


def activation(
    party: Party,
    x: Replicated | Sum3,
    series: Series,
    pivot: int,
    format: Format,
    argument: float | None = None,
    reading: Reading | None = None,
) -> Protocol[Replicated]:
    """The activation of `series` at every element, Replicated in `format`.

    Condition: |x| < `argument`; None: whatever x's format holds (`read_for`). Error: the fit's, about 2^-12
    from rounding the argument and the cosines, and the tail's at the window's edge; docs/protocols.md gives
    figures. reading: one of `readings`; by default the one of fewest bits. Rounds: 3 to 6; bits:
    `activation_cost`. A product (Sum3) never becomes Replicated: only the bits that are needed are read.
    """
    way = reading or readings(series, argument, type(x), x.format, format)[0]
    pairs = yield from _gated(party, x, pivot, way, format)
    # 4. to the ring of the result
    parts = yield from parallel([_widened(party, pair, way, format) for pair in _summed(pairs, way)])
    total = parts[0].plus(from_integers(_units(series.left, parts[0].fraction), parts[0].bits))
    for part in parts[1:]:
        total = total + part
    result = replicate_pair(party, total)
    yield
    return result.raised(format.fraction - result.fraction)


def activation_terms(party: Party, x: Replicated | Sum3, pivot: int, reading: Reading) -> Protocol[Sum3]:
    """The activation as terms, of which the pivot's is zero, in the ring and at the scale of `terms_format`.

    reading: one of `readings_to_terms`. Condition, error and masks: those of `activation`. Rounds: 2 or 3;
    bits: `activation_cost`.
    """
    (pair,) = _summed((yield from _gated(party, x, pivot, reading, x.format)), reading)
    return Sum3(party.index, pair.words, pair.format)


def terms_format(reading: Reading) -> Format:
    """The format in which `activation_terms` leaves its result, which is LEAST or more."""
    return Format(reading.joint, reading.fraction)


def _gated(
    party: Party, x: Replicated | Sum3, pivot: int, way: Reading, format: Format
) -> Protocol[list[Pair]]:
    """What each of the two bits of the window gates."""
    series = way.series
    # 1. x as Split, at three scales: for the lines, for the coarse reading, for the angle
    seen = split(party, x, pivot, Format(way.bits, series.read))
    wide = seen.modulo(way.wide)
    if way.ramp and way.way is not Way.STRAIGHT and wide.halves is None:
        wide = deal_halves(party, wide)
    both: list[Protocol[Any]] = [
        locate(party, _place(seen, way), series.width, way.deep, way.found),
        _inside(party, seen, way),
    ]
    # 2. where x lies, and the series
    (inside, above), found = yield from parallel(both)
    # 3. each bit gates its value
    gates = _ramp(party, inside, above, found, wide, way, format)
    if not way.ramp:
        gates = _step(party, inside, above, found, way, format)
    return (yield from parallel(gates))


def _place(seen: Split, way: Reading) -> Split:
    """x in units from the left end of the window."""
    shift = way.series.read + int(math.log2(way.series.unit))
    half = 0 if way.series.width % 2 else 1 << (shift - 1)
    offset = (way.series.width // 2 << shift) - half
    return seen.plus(from_integers(offset, seen.bits)).lowered(shift, way.place)


def _inside(party: Party, seen: Split, way: Reading) -> Protocol[Replicated]:
    """W(x) - left; it is still on its way when this returns."""
    series, (faster, _) = way.series, way.series.speed
    angle = seen.times(from_integers(faster, seen.bits)) if faster > 1 else seen
    angle = angle.lowered(way.angle_shift, series.angle_bits)
    pair = yield from evaluate_series(party, series, angle, series.precision, way.series_bits)
    pair = pair.lowered(pair.fraction - way.fraction)
    return replicate_pair(party, pair.plus(from_integers(-_units(series.left, way.fraction), pair.bits)))


def _ramp(
    party: Party, inside: Bit, above: Bit, found: Replicated, wide: Split, way: Reading, format: Format
) -> list[Protocol[Pair]]:
    """[inside] (x/2 + W), [above] x."""
    x, half = wide.modulo(way.above), wide.with_fraction(way.fraction)
    if way.joins:
        least = _units(way.ends[0], way.fraction)
        return [lifting_gate(party, inside, found, way.joint, least, half), gate(party, above, x)]
    value, low = see(party, found, wide.pivot) + half.modulo(way.inner), _units(LEAST, way.fraction)
    if way.way is Way.APART:
        return [gate(party, inside, value), gate(party, above, x)]
    result = way.result(format)
    return [lifting_gate(party, inside, value, result, low), lifting_gate(party, above, x, result - 1, 0)]


def _step(
    party: Party, inside: Bit, above: Bit, found: Replicated, way: Reading, format: Format
) -> list[Protocol[Pair]]:
    """[inside] (W - left), [above]."""
    if way.way is Way.APART:
        value = see(party, found, inside.pivot)
        return [gate(party, inside, value), arithmetic(party, above, way.inner)]
    result, least = way.result(format), _units(way.ends[0], way.fraction)
    return [lifting_gate(party, inside, found, result, least), arithmetic(party, above, result)]


def _summed(pairs: list[Pair], way: Reading) -> list[Pair]:
    """The gated values at one scale, added up where they share a ring."""
    inside, above = pairs
    if way.ramp:
        above = above.raised(1)
        return [inside, above] if way.way is Way.APART else [inside + above]
    height = _units(way.series.right - way.series.left, way.fraction)
    return [inside + above.times(from_integers(height, above.bits), way.fraction)]


def _widened(party: Party, part: Pair, way: Reading, format: Format) -> Protocol[Pair]:
    over = max(part.fraction - format.fraction, 0)
    least = _units(LEAST if way.ramp else way.ends[0], part.fraction - over)
    return (yield from widen(party, part.lowered(over), way.result(format), least))


def _units(value: float, fraction: int) -> int:
    return math.floor(value * (1 << fraction))


def activation_cost(
    series: Series,
    elements: int,
    source: Format,
    format: Format,
    form: type = Sum3,
    argument: float | None = None,
    reading: Reading | None = None,
) -> Cost:
    way = reading or readings(series, argument, form, source, format)[0]
    return way.cost(elements, format, form)
