"""1 / x and 1 / sqrt(x) of a positive value, one a row, over the whole range of the format.

A power of four (power_of_four.py) brings the value to [1/4, 2), a Fourier series evaluates the function
there, and the power undoes the scaling (docs/protocols.md, "Reciprocals"). There is no Newton step: for one
element a row, more harmonics and finer cosines cost no round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost, split, split_cost
from onnxpuma.mpc.protocols.fourier import all_series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost, resolve, resolve_cost
from onnxpuma.mpc.ring.words import WIDEST

ARGUMENT_BITS = 26  # 2^26 <-> a period of 4
SERIES_FRACTION = 24
CARRIER = WIDEST  # bits of the ring where function and power meet, whatever ring x and the result belong to
_HEADROOM = 4  # bits of the carrier above their product, for its truncation
_FINEST = 30  # fraction bits of a function in the window, at most
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


def count_bits(digits: tuple[int, int]) -> int:
    """Bits that count the digits from the lowest threshold to the end of that ring."""
    return (ring_of(digits) // 2 - digits[0]).bit_length()


def digits_of(low: float, high: float, format: Format) -> tuple[int, int]:
    """The digit range (`to_window`) of a value in this format that lies in [low, high)."""
    first = max(1, (_exponent(low / format.unit, math.floor) // 2) + 1)
    last = min(whole_range(format.bits)[1], -(-_exponent(high / format.unit, math.ceil) // 2))
    return first, max(last, first + 1)


def _exponent(x: float, rounded: Callable[[float], int]) -> int:
    """log2 rounded to an integer, the same on every machine."""
    mantissa, exponent = math.frexp(x)
    return exponent - 1 if mantissa == 0.5 or rounded is math.floor else exponent


@dataclass(frozen=True)
class Scales:
    """Fraction bits along the way. All of them follow from public numbers."""

    exponent: int  # the series evaluates gain / 2^exponent times the function, which is at most 4
    kept: int  # fraction bits of the series' result
    product: int  # fraction bits of that result times the power

    @classmethod
    def of(cls, name: str, source: int, digits: tuple[int, int], fraction: int, gain: float) -> Scales:
        low, high = digits
        if gain <= 0 or (name == "rsqrt" and source % 2):
            raise ProtocolError(
                f"{name} with gain {gain} of {source} fraction bits",
                "a positive gain; an even scale for rsqrt",
            )
        squared = name == "reciprocal"
        exponent = _exponent(gain, math.ceil)
        undone = 2 * high - source if squared else high - source // 2
        held = CARRIER - _HEADROOM  # bits of the product
        kept = min(_FINEST, held - 2 - (high - low) * (2 if squared else 1))
        kept = max(0, min(kept, held + fraction + exponent - undone))  # its truncation stays in the ring
        return cls(exponent, kept, kept + undone - exponent)


def _inverse(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    name: str,
    format: Format,
    digits: tuple[int, int],
    gain: float,
) -> Protocol[Replicated]:
    low, high = digits
    scales = Scales.of(name, x.fraction, digits, format.fraction, gain)
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and the power that undoes it
    seen = split(party, x, pivot, x.format.modulo(ring_of(digits)))
    squared, counts = name == "reciprocal", count_bits(digits)
    scaled = yield from to_window(party, seen, low, high, squared, counts, power_bits=CARRIER)
    # 2. the function of v, led by the next party, back to the full ring
    inverse = yield from in_window(party, scaled.value, name, high, scales.kept, gain / 2.0**scales.exponent)
    # 3. times the power
    product = multiply(party, inverse.with_fraction(scales.product), scaled.power)
    missing = format.fraction - scales.product
    if missing > 0:  # the result of a huge argument has no bits to truncate
        product = product.times(product.format.word.type(1 << missing), missing)
    return (yield from resolve(party, product, pivot, format))


def in_window(
    party: Party, value: Split, name: str, high: int, kept: int, gain: float
) -> Protocol[Replicated]:
    """gain times the function `name` of a value that `to_window` scaled: `kept` fraction bits in CARRIER."""
    window = _read(value, 2 * high + 2)
    pair = yield from evaluate_series(party, all_series()[name], window, SERIES_FRACTION, CARRIER, gain)
    return (yield from lift(party, pass_on(party, pair.lowered(pair.fraction - kept)), CARRIER))


def in_window_cost(name: str, elements: int, kept: int, gain: float) -> Cost:
    series = all_series()[name]
    width = CARRIER - result_fraction(series, SERIES_FRACTION, gain) + kept
    dealt = series_cost(series, elements, SERIES_FRACTION, CARRIER, gain)
    return Cost(0, dealt.bits) + (pass_on_cost(elements, width) | lift_cost(elements, width, CARRIER))


def _read(value: Split, period: int) -> Split:
    """The value mod 2^period, at ARGUMENT_BITS bits."""
    shift = period - ARGUMENT_BITS
    if shift < 0:
        return value.raised(-shift, ARGUMENT_BITS)
    return value.lowered(shift, ARGUMENT_BITS)


def window_reciprocal(
    party: Party, x: Replicated | Sum3, pivot: int, digits: tuple[int, int] = WINDOW_RANGE
) -> Protocol[tuple[Replicated, Replicated]]:
    """4^high / v and 4^(high - d) of a positive x, (n,), where v = x 4^(high - d) lies in the window. A
    dividend that is multiplied by the second and then by the first keeps all its digits, however large x is.

    The first has WINDOW_FRACTION fraction bits and lies in (1/2, 4], the second has none; both are mod
    2^CARRIER. Their product is 4^high times the reciprocal of x in units. Rounds: 6; bits:
    `window_reciprocal_cost`.
    """
    low, high = digits
    seen = split(party, x, pivot, x.format.modulo(ring_of(digits)))
    scaled = yield from to_window(party, seen, low, high, True, count_bits(digits), power_bits=CARRIER)
    return (yield from in_window(party, scaled.value, "reciprocal", high, WINDOW_FRACTION, 1.0)), scaled.power


def window_reciprocal_cost(elements: int, digits: tuple[int, int] = WINDOW_RANGE, form: type = Sum3) -> Cost:
    total = window_cost(elements, *digits, ring_of(digits), count_bits(digits), power_bits=CARRIER)
    total = total + in_window_cost("reciprocal", elements, WINDOW_FRACTION, 1.0)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


def reciprocal(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = RECIPROCAL_RANGE,
    gain: float = 1.0,
) -> Protocol[Replicated]:
    """gain / x of a positive x, (n,), in `format`.

    `digits`: `digits_of` the range in which x lies. Relative error about 2^-20, and one unit of the result.
    Conditions: x > 0; the result below `format.largest`.
    Rounds: 8; bits: `inverse_cost`, one element a row.
    """
    return (yield from _inverse(party, x, pivot, "reciprocal", format, digits, gain))


def rsqrt(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = WHOLE_RANGE,
    gain: float = 1.0,
) -> Protocol[Replicated]:
    """gain / sqrt(x) of a positive x with an even number of fraction bits; otherwise as `reciprocal`."""
    return (yield from _inverse(party, x, pivot, "rsqrt", format, digits, gain))


def inverse_cost(
    name: str,
    elements: int,
    digits: tuple[int, int],
    source: int,
    format: Format,
    gain: float = 1.0,
    form: type = Sum3,
) -> Cost:
    """source: fraction bits of x."""
    scales = Scales.of(name, source, digits, format.fraction, gain)
    series = in_window_cost(name, elements, scales.kept, gain / 2.0**scales.exponent)
    total = window_cost(elements, *digits, ring_of(digits), count_bits(digits), power_bits=CARRIER) + series
    shift = max(0, scales.product - format.fraction)
    total = total + resolve_cost(elements, shift, CARRIER, bits=format.bits)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)
