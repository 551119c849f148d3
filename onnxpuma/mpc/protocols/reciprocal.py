"""1 / x and 1 / sqrt(x) of a positive value, one a row, over the whole range of the format.

A power of four (power_of_four.py) brings the value to [1/4, 2); a Fourier series evaluates the function there
and multiplies it by the power that undoes the scaling, in one message (exact_series.py; docs/protocols.md,
"Reciprocals"). There is no Newton step: for one element a row, more harmonics cost no round.
"""

from __future__ import annotations

import math
from functools import lru_cache

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, split, split_cost
from onnxpuma.mpc.protocols.exact_series import series_long, series_long_cost
from onnxpuma.mpc.protocols.fourier import all_series, result_fraction
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import (
    SERIES_FRACTION,
    Scales,
    Way,
    exponent_of,
    sum_at_twins,
    sum_at_twins_cost,
    sum_times_powers,
    sum_times_powers_cost,
    window_of,
    window_of_cost,
)
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.mpc.ring.words import WIDEST

CARRIER = WIDEST  # bits of the ring of a reciprocal in the window and its power
WINDOW_FRACTION = 20  # of a reciprocal that multiplies a scaled dividend


def whole_range(bits: int) -> tuple[int, int]:
    """Digits of base four of any positive x mod 2^bits, from one unit to 2^(bits - 3) units."""
    return 1, bits // 2 - 2


WHOLE_RANGE = whole_range(WIDEST)
RECIPROCAL_RANGE = (1, 16)  # x from one unit to 2^33 units: the power is a square, so half the digits fit
WINDOW_RANGE = (1, 21)  # for a dividend that is multiplied by the power first


def ring_of(digits: tuple[int, int]) -> int:
    """Bits of the ring of any value in the range of these digits, scaled to the window or not."""
    return 2 * digits[1] + 2


def digits_of(low: float, high: float, format: Format) -> tuple[int, int]:
    """The digit range (`to_window`) of a value in this format that lies in [low, high)."""
    first = max(1, (exponent_of(low / format.unit, math.floor) // 2) + 1)
    last = min(whole_range(format.bits)[1], -(-exponent_of(high / format.unit, math.ceil) // 2))
    return first, max(last, first + 1)


@lru_cache(maxsize=256)
def _inverse_scales(
    name: str, source: int, digits: tuple[int, int], format: Format, gain: float, way: Way, wider: int = 0
) -> tuple[Scales, Thresholds]:
    low, high = digits
    if name == "rsqrt" and source % 2:
        raise ProtocolError(f"{name} of {source} fraction bits", "an even scale for rsqrt")
    squared = name == "reciprocal"
    undone = 2 * high - source if squared else high - source // 2
    scales = Scales.of(name, undone, (high - low) * (2 if squared else 1), format, gain, way, wider)
    power = Power.INVERSE if squared else Power.INVERSE_ROOT
    return scales, Thresholds(low, high, ring_of(digits), power, scales.bits)


def _reading(
    party: Party,
    x: Replicated | Sum3 | Split,
    pivot: int,
    name: str,
    format: Format,
    digits: tuple[int, int],
    gain: float,
    way: Way,
    wider: int = 0,
) -> tuple[list[Split], list[Thresholds], list[Scales]]:
    """x as a sum of one term that `times_power.py` evaluates."""
    scales, thresholds = _inverse_scales(name, x.fraction, digits, format, gain, way, wider)
    return [split(party, x, pivot, x.format.modulo(thresholds.bits))], [thresholds], [scales]


def rsqrt_at_twins(
    party: Party,
    x: Sum3,
    pivot: int,
    format: Format,
    digits: tuple[int, int],
    gain: float,
    way: Way,
    wider: int,
) -> Protocol[LongPair]:
    """`rsqrt` as the twins hold it, mod 2^(`format.bits` + wider). Rounds: one less."""
    read = _reading(party, x, pivot, "rsqrt", format, digits, gain, way, wider)
    return (yield from sum_at_twins(party, *read, way))


def rsqrt_at_twins_cost(
    elements: int,
    digits: tuple[int, int],
    source: int,
    format: Format,
    gain: float,
    way: Way,
    wider: int,
) -> Cost:
    return _at_twins_cost("rsqrt", elements, digits, source, format, gain, way, wider, Sum3)


def reciprocal_at_twins(
    party: Party, x: Split, format: Format, digits: tuple[int, int], way: Way, wider: int
) -> Protocol[LongPair]:
    """`reciprocal` as the twins hold it, mod 2^(`format.bits` + wider). Rounds: one less."""
    read = _reading(party, x, x.pivot, "reciprocal", format, digits, 1.0, way, wider)
    return (yield from sum_at_twins(party, *read, way))


def reciprocal_at_twins_cost(
    elements: int, digits: tuple[int, int], source: int, format: Format, way: Way, wider: int
) -> Cost:
    return _at_twins_cost("reciprocal", elements, digits, source, format, 1.0, way, wider, Split)


def _at_twins_cost(
    name: str,
    elements: int,
    digits: tuple[int, int],
    source: int,
    format: Format,
    gain: float,
    way: Way,
    wider: int,
    form: type,
) -> Cost:
    scales, thresholds = _inverse_scales(name, source, digits, format, gain, way, wider)
    total = sum_at_twins_cost(elements, [thresholds], [scales], way)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


def window_reciprocal(
    party: Party, x: Replicated | Sum3, pivot: int, digits: tuple[int, int] = WINDOW_RANGE
) -> Protocol[tuple[Replicated, Replicated]]:
    """4^high / v and 4^(high - d) of a positive x, (n,), where v = x 4^(high - d) lies in the window. A
    dividend that is multiplied by the second and then by the first keeps all its digits, however large x is.

    The first has WINDOW_FRACTION fraction bits and lies in (1/2, 4], the second has none; both are mod
    2^CARRIER. Their product is 4^high times the reciprocal of x in units. Rounds: 6; bits:
    `window_reciprocal_cost`.
    """
    high, series = digits[1], all_series()["reciprocal"]
    seen = split(party, x, pivot, x.format.modulo(ring_of(digits)))
    scaled = yield from to_window(party, seen, _window_thresholds(digits))
    # 1. the power is replicated while v goes to the next pivot
    power = replicate_pair(party, scaled.power.lowered(0, Format(CARRIER, 0)))
    value = window_of(party, scaled.value, high)
    bits = _window_width() + result_fraction(series, SERIES_FRACTION) - WINDOW_FRACTION
    y = yield from series_long(party, series, value, bits, SERIES_FRACTION)
    # 2. back to the full ring
    pair = y.lowered(bits - _window_width(), Format(_window_width(), WINDOW_FRACTION))
    return (yield from lift_pair(party, pair, CARRIER)), power


def _window_width() -> int:
    """Bits of a reciprocal in the window, with room for the lift."""
    return WINDOW_FRACTION + 5


@lru_cache(maxsize=64)
def _window_thresholds(digits: tuple[int, int]) -> Thresholds:
    return Thresholds(*digits, ring_of(digits), Power.INVERSE, CARRIER)


def window_reciprocal_cost(elements: int, digits: tuple[int, int] = WINDOW_RANGE, form: type = Sum3) -> Cost:
    series, width = all_series()["reciprocal"], _window_width()
    bits = width + result_fraction(series, SERIES_FRACTION) - WINDOW_FRACTION
    passed = replicate_pair_cost(elements, CARRIER) | window_of_cost(elements, digits[1])
    passed = passed | series_long_cost(series, elements, bits, SERIES_FRACTION)
    back = lift_pair_cost(elements, width, CARRIER)
    read = Cost(0, split_cost(elements, ring_of(digits), form).bits)
    return read + window_cost(elements, [_window_thresholds(digits)]) + passed + back


def reciprocal(
    party: Party,
    x: Replicated | Sum3 | Split,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = RECIPROCAL_RANGE,
    gain: float = 1.0,
    way: Way = Way.MASKED,
) -> Protocol[Replicated]:
    """gain / x of a positive x, (n,), in `format`.

    `digits`: `digits_of` the range in which x lies. Relative error about 2^-20, and one unit of the result.
    Conditions: x > 0; the result below `format.largest`.
    Rounds: 5, by other ways 3 or 6; bits: `inverse_cost`, one element a row.
    """
    read = _reading(party, x, pivot, "reciprocal", format, digits, gain, way)
    return (yield from sum_times_powers(party, *read, way))


def rsqrt(
    party: Party,
    x: Replicated | Sum3 | Split,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = WHOLE_RANGE,
    gain: float = 1.0,
    way: Way = Way.MASKED,
) -> Protocol[Replicated]:
    """gain / sqrt(x) of a positive x with an even number of fraction bits; otherwise as `reciprocal`."""
    read = _reading(party, x, pivot, "rsqrt", format, digits, gain, way)
    return (yield from sum_times_powers(party, *read, way))


def inverse_cost(
    name: str,
    elements: int,
    digits: tuple[int, int],
    source: int,
    format: Format,
    gain: float = 1.0,
    form: type = Sum3,
    way: Way = Way.MASKED,
) -> Cost:
    """source: fraction bits of x."""
    scales, thresholds = _inverse_scales(name, source, digits, format, gain, way)
    total = sum_times_powers_cost(elements, [thresholds], [scales], way)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)
