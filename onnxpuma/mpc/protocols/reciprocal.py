"""1 / x and 1 / sqrt(x) of a positive value, one a row, over the whole range of the format.

The value is brought to [1/4, 2) by a power of four (power_of_four.py), a Fourier series gives the function
there, and the power undoes the scaling (docs/protocols.md, "Reciprocals"). No Newton step: for one element
a row, more harmonics and finer cosines cost no round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated, Split, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost, split, split_cost
from onnxpuma.mpc.protocols.fourier import all_series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost, resolve, resolve_cost

ARGUMENT_BITS = 26  # 2^26 <-> a period of 4
SERIES_FRACTION = 24
WINDOW_FRACTION = 20  # of a reciprocal that a scaled dividend is multiplied by
WHOLE_RANGE = (1, 30)  # digits of base four: for rsqrt, x from one unit to 2^61 units
RECIPROCAL_RANGE = (1, 16)  # x from one unit to 2^33 units: the power is a square, so half the digits fit
WINDOW_RANGE = (1, 21)  # where a dividend is multiplied by the power first


def ring_of(digits: tuple[int, int]) -> int:
    """Bits that hold any value in the range of these digits, and what normalising makes of it."""
    return 2 * digits[1] + 2


def count_bits(digits: tuple[int, int]) -> int:
    """Bits that count the digits from the lowest threshold to the end of that ring."""
    return (ring_of(digits) // 2 - digits[0]).bit_length()


def digits_of(low: float, high: float, fraction: int) -> tuple[int, int]:
    """The digit range (`to_window`) of a value known to lie in [low, high) with `fraction` fraction bits."""
    first = max(1, (_exponent(low * 2.0**fraction, math.floor) // 2) + 1)
    last = min(30, -(-_exponent(high * 2.0**fraction, math.ceil) // 2))
    return first, max(last, first + 1)


def _exponent(x: float, rounded: Callable[[float], int]) -> int:
    """log2 rounded to an integer, the same on every machine."""
    mantissa, exponent = math.frexp(x)
    return exponent - 1 if mantissa == 0.5 or rounded is math.floor else exponent


@dataclass(frozen=True)
class Scales:
    """Fraction bits along the way, which all follow from what is public."""

    exponent: int  # the series gives gain / 2^exponent times the function, which is at most 4
    kept: int  # fraction bits of the series' result
    product: int  # fraction bits of result times power

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
        kept = min(30, 58 - (high - low) * (2 if squared else 1))  # the product stays below 2^60
        kept = max(0, min(kept, 60 + fraction + exponent - undone))  # and its truncation inside the ring
        return cls(exponent, kept, kept + undone - exponent)


def _inverse(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    name: str,
    fraction: int,
    digits: tuple[int, int],
    gain: float,
) -> Protocol[Replicated]:
    low, high = digits
    scales = Scales.of(name, x.fraction, digits, fraction, gain)
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and the power that undoes it
    seen = split(party, x, pivot, x.fraction, ring_of(digits))
    squared, counts = name == "reciprocal", count_bits(digits)
    scaled = yield from to_window(party, seen, low, high, squared, counts, power_bits=64)
    # 2. the function of v, led by the next party, back to the full ring
    inverse = yield from in_window(party, scaled.value, name, high, scales.kept, gain / 2.0**scales.exponent)
    # 3. times the power
    product = multiply(party, inverse.with_fraction(scales.product), scaled.power)
    missing = fraction - scales.product
    if missing > 0:  # a huge argument's result has no bits to truncate
        product = product.times(np.uint64(1 << missing), missing)
    return (yield from resolve(party, product, pivot, fraction))


def in_window(
    party: Party, value: Split, name: str, high: int, kept: int, gain: float
) -> Protocol[Replicated]:
    """gain times the function `name` of what `to_window` made, `kept` fraction bits mod 2^64."""
    window = _read(value, 2 * high + 2)
    pair = yield from evaluate_series(party, all_series()[name], window, SERIES_FRACTION, 64, gain)
    return (yield from lift(party, pass_on(party, pair.lowered(pair.fraction - kept)), 64))


def in_window_cost(name: str, elements: int, kept: int, gain: float) -> Cost:
    series = all_series()[name]
    width = 64 - result_fraction(series, SERIES_FRACTION, gain) + kept
    dealt = series_cost(series, elements, SERIES_FRACTION, 64, gain)
    return Cost(0, dealt.bits) + (pass_on_cost(elements, width) | lift_cost(elements, width, 64))


def _read(value: Split, period: int) -> Split:
    """The value mod 2^period, at ARGUMENT_BITS bits."""
    shift = period - ARGUMENT_BITS
    if shift < 0:
        return value.raised(-shift, ARGUMENT_BITS)
    return value.lowered(shift, ARGUMENT_BITS)


def window_reciprocal(
    party: Party, x: Replicated | Sum3, pivot: int, digits: tuple[int, int] = WINDOW_RANGE
) -> Protocol[tuple[Replicated, Replicated]]:
    """4^high / v and 4^(high - d) of a positive x, (n,), where v = x 4^(high - d) lies in the window: with a
    dividend between them 1 / x keeps all its digits, however large x is.

    The first has WINDOW_FRACTION fraction bits mod 2^64 and lies in (1/2, 4], the second none. Of 1 / x times
    one unit of x they miss 4^high. Rounds: 6; bits: `window_reciprocal_cost`.
    """
    low, high = digits
    seen = split(party, x, pivot, x.fraction, ring_of(digits))
    scaled = yield from to_window(party, seen, low, high, True, count_bits(digits), power_bits=64)
    return (yield from in_window(party, scaled.value, "reciprocal", high, WINDOW_FRACTION, 1.0)), scaled.power


def window_reciprocal_cost(elements: int, digits: tuple[int, int] = WINDOW_RANGE, form: type = Sum3) -> Cost:
    total = window_cost(elements, *digits, ring_of(digits), count_bits(digits), power_bits=64)
    total = total + in_window_cost("reciprocal", elements, WINDOW_FRACTION, 1.0)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


def reciprocal(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    fraction: int,
    digits: tuple[int, int] = RECIPROCAL_RANGE,
    gain: float = 1.0,
) -> Protocol[Replicated]:
    """gain / x of a positive x, (n,), with `fraction` fraction bits mod 2^64.

    `digits`: `digits_of` the range x is known to lie in. Relative error about 2^-20, and one unit of the
    result. Conditions: x > 0; the result below 2^(62 - fraction).
    Rounds: 8; bits: `inverse_cost`, one element a row.
    """
    return (yield from _inverse(party, x, pivot, "reciprocal", fraction, digits, gain))


def rsqrt(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    fraction: int,
    digits: tuple[int, int] = WHOLE_RANGE,
    gain: float = 1.0,
) -> Protocol[Replicated]:
    """gain / sqrt(x) of a positive x with an even number of fraction bits; otherwise as `reciprocal`."""
    return (yield from _inverse(party, x, pivot, "rsqrt", fraction, digits, gain))


def inverse_cost(
    name: str,
    elements: int,
    digits: tuple[int, int],
    source: int,
    fraction: int,
    gain: float = 1.0,
    form: type = Sum3,
) -> Cost:
    scales = Scales.of(name, source, digits, fraction, gain)
    series = in_window_cost(name, elements, scales.kept, gain / 2.0**scales.exponent)
    total = window_cost(elements, *digits, ring_of(digits), count_bits(digits), power_bits=64) + series
    total = total + resolve_cost(elements, max(0, scales.product - fraction))
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)
