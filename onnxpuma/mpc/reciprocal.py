"""1 / x and 1 / sqrt(x) of a positive value, one a row, over the whole range of the format.

The value is brought to [1/4, 2) by a power of four (normalise.py), a Fourier series gives the function
there, and the power undoes the scaling (protocols.md, section 8). No Newton step: for one element a row,
more harmonics and finer cosines cost no round.
"""

from __future__ import annotations

import math

from onnxpuma.mpc.convert import pass_on, pass_on_cost, split, split_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.normalise import normalise, normalise_cost
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.separable import all_series, evaluate_series, series_cost
from onnxpuma.mpc.shares import Replicated, Sum3
from onnxpuma.mpc.truncate import lift, lift_cost, resolve, resolve_cost

ARGUMENT_BITS = 26  # 2^26 <-> a period of 4
SERIES_FRACTION = 24
WHOLE_RANGE = (1, 30)  # digits of base four: for rsqrt, x from one unit to 2^61 units
RECIPROCAL_RANGE = (1, 16)  # x from one unit to 2^33 units: the power is a square, so half the digits fit


def digits_of(low: float, high: float, fraction: int) -> tuple[int, int]:
    """The digit range (`normalise`) of a value known to lie in [low, high) with `fraction` fraction bits."""
    first = max(1, math.floor(math.log2(low * 2.0**fraction) / 2) + 1)
    last = min(30, math.ceil(math.log2(high * 2.0**fraction) / 2))
    return first, max(last, first + 1)


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
    seen = split(party, x, pivot, x.fraction, 64)
    scaled = yield from normalise(party, seen, low, high, squared=name == "reciprocal")
    exponent = math.ceil(math.log2(gain))
    kept = min(30, 58 - (high - low) * (2 if name == "reciprocal" else 1))  # so that the product below fits
    shift = 2 * high + 2 - ARGUMENT_BITS
    window = (
        scaled.value.lowered(shift, ARGUMENT_BITS)
        if shift >= 0
        else scaled.value.raised(-shift, ARGUMENT_BITS)
    )
    series = all_series()[name]
    pair = yield from evaluate_series(party, series, window, SERIES_FRACTION, 64, gain / 2.0**exponent)
    pair = pair.lowered(2 * SERIES_FRACTION - kept)
    inverse = yield from lift(party, pass_on(party, pair), 64)
    undone = high * 2 - x.fraction if name == "reciprocal" else high - x.fraction // 2
    product = multiply(party, inverse.with_fraction(kept + undone - exponent), scaled.power)
    if product.fraction < fraction:  # a huge argument's result has no bits to truncate
        product = product.times(
            product.words.dtype.type(1 << (fraction - product.fraction)), fraction - product.fraction
        )
    return (yield from resolve(party, product, pivot, fraction))


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
    Rounds: 9; bits: `inverse_cost`, one element a row.
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
    low, high = digits
    kept = min(30, 58 - (high - low) * (2 if name == "reciprocal" else 1))
    undone = high * 2 - source if name == "reciprocal" else high - source // 2
    width = 64 - 2 * SERIES_FRACTION + kept
    series = series_cost(all_series()[name], elements, 64)
    shift = max(0, kept + undone - math.ceil(math.log2(gain)) - fraction)
    arrive = split_cost(elements, 64, form).bits
    scale = normalise_cost(elements, low, high)
    back = pass_on_cost(elements, width) | lift_cost(elements, width, 64)
    total = scale + Cost(0, series.bits) + back + resolve_cost(elements, shift)
    return Cost(total.rounds, total.bits + arrive)
