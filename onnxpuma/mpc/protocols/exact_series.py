"""A Fourier series of one element a row, exact until it is complete (docs/protocols.md, "Reciprocals").

As in fourier.py the pivot deals cosines and sines of A, and the twins multiply by factors of B. Here all of
these are exact integers, in a ring of up to 128 bits that holds the whole product: with a second factor, the
power that undoes a scaling, whose part A multiplies what is dealt and whose part B the twins' sums. What is
left to do is one shift to the right, which the twins do alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols import circle
from onnxpuma.mpc.protocols.circle import Integers
from onnxpuma.mpc.protocols.fourier import (
    EXTRA,
    Series,
    dealt_fractions,
    integer_coefficients,
    result_fraction,
)
from onnxpuma.mpc.protocols.long_words import LongPair, LongSplit, deal_long, deal_long_cost
from onnxpuma.mpc.ring.arrays import filled, flat, integers, joined
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import WIDEST, Words, from_integers, reduced

ARGUMENT_BITS = 26  # of the argument: 2^26 <-> a period
_POINT = 30  # fraction bits of the cosines and sines from which all others are rounded


def constant(series: Series, fraction: int, gain: float) -> int:
    """c_0 at the scale of the result."""
    return round(series.coefficients[0] * gain * (1 << result_fraction(series, fraction, gain)))


def _points(series: Series, words: Words) -> tuple[Integers, Integers]:
    """Cosines and sines of m w for each harmonic m, w in turns of 2^ARGUMENT_BITS: (n, harmonics)."""
    multiples = from_integers(series.multiples, ARGUMENT_BITS)
    angles = reduced(words[:, None] * multiples, ARGUMENT_BITS)
    return circle.points(angles.astype(np.int64), ARGUMENT_BITS, _POINT)


def _rounded(value: Integers, shift: int | Integers) -> Integers:
    by = integers(shift)
    return (value + ((np.int64(1) << by) >> np.int64(1))) >> by


def _dealt(series: Series, a: Words, fraction: int, gain: float) -> Integers:
    """Cosines, then sines of A's angles, each with the fraction bits of its harmonic: (n, 2 harmonics)."""
    less = _POINT - integers(dealt_fractions(series, fraction, gain))
    return joined([_rounded(value, less) for value in _points(series, a)], axis=1)


def _factors(series: Series, b: Words, fraction: int, gain: float) -> Integers:
    """The twins' factors of the dealt cosines and sines, at the scale of the sum: (n, 2 harmonics)."""
    dealt = integers(dealt_fractions(series, fraction, gain))
    c, s = integers(integer_coefficients(series, gain)).T
    cosine, sine = _points(series, b)
    by, up = EXTRA + _POINT - fraction, dealt.max() - dealt
    both = (c * cosine + s * sine, s * cosine - c * sine)
    return joined([_rounded(value, by) << up for value in both], axis=1)


def widths(series: Series, fraction: int, gain: float, bits: int) -> list[int]:
    """Bits in which each cosine and each sine is dealt: its factor supplies the rest."""
    own = dealt_fractions(series, fraction, gain)
    return [max(bits - (max(own) - each), 1) for each in own] * 2


def series_long(
    party: Party, series: Series, x: Split, bits: int, fraction: int, gain: float = 1.0
) -> Protocol[LongPair]:
    """gain * series(x), (n,), mod 2^bits, exact but for the tables: `result_fraction` fraction bits.

    x has ARGUMENT_BITS bits, one period. Amplitudes are below 8. Error: the fit's, and rounding of about
    2^-fraction for each harmonic. Masks: F_{p+1}. Rounds: 1, one way from the pivot, which knows its part at
    once; bits: `series_long_cost`.
    """
    p, role, n = x.pivot, party.role(x.pivot), x.size
    dealt = Long.of_integers(_dealt(series, flat(x.words), fraction, gain)) if role == PIVOT else None
    coming = deal_long(party, p, dealt, n, widths(series, fraction, gain, bits))
    yield
    if role == PIVOT:
        return LongPair(role, p, None, x.shape, bits)
    factors = Long.of_integers(_factors(series, flat(x.words), fraction, gain))
    y = (coming.take() * factors).total()
    if role == U:
        y = y + Long.constants([constant(series, fraction, gain)])
    return LongPair(role, p, y, x.shape, bits)


def series_long_cost(series: Series, elements: int, bits: int, fraction: int, gain: float = 1.0) -> Cost:
    return deal_long_cost(elements, widths(series, fraction, gain, bits))


def series_plus(
    party: Party, series: Series, x: Split, more: LongSplit, weight: int, fraction: int
) -> Protocol[LongPair]:
    """series(x) + weight * more, (n,), in the ring of `more`; weight: at the scale of the result.

    Otherwise as `series_long`. Rounds: 1; bits: `series_plus_cost`.
    """
    p, role, n, bits = x.pivot, party.role(x.pivot), x.size, more.bits
    late = deal_long(party, p, more.words[:, None] if role == PIVOT else None, n, [bits])
    y = yield from series_long(party, series, x, bits, fraction)
    if y.words is None:
        return y
    added = late.take()[:, 0]
    if role == U:
        added = added + more.words
    return LongPair(role, p, y.words + added * Long.constants([weight]), x.shape, bits)


def series_plus_cost(series: Series, elements: int, bits: int, fraction: int) -> Cost:
    return series_long_cost(series, elements, bits, fraction) | deal_long_cost(elements, [bits])


def series_times(
    party: Party, series: Series, x: Split, powers: Sequence[LongSplit], fraction: int, gain: float = 1.0
) -> Protocol[LongPair]:
    """gain * series(x) * the powers, (n,), in the powers' ring; otherwise as `series_long`.

    The pivot deals every cosine times each product of the powers' parts A, and the twins multiply by the
    other parts B: 2^(number of powers) words for each. Rounds: 1; bits: `series_times_cost`.
    """
    p, role, n, bits = x.pivot, party.role(x.pivot), x.size, powers[0].bits
    one, count = Long.of_words(filled((n, 1), 1, WIDEST)), 1 << len(powers)
    each = [bits, *widths(series, fraction, gain, bits)]
    wide = [*(each * (count - 1)), *each[1:]]  # the twins know the one that multiplies the constant
    dealt = None
    if role == PIVOT:
        values = Long.of_integers(_dealt(series, flat(x.words), fraction, gain))
        products = _products(powers, one)
        blocks = [Long.joined([one, values]) * product for product in products[:0:-1]]
        dealt = Long.joined([*blocks, values])
    coming = deal_long(party, p, dealt, n, wide)
    yield
    if role == PIVOT:
        return LongPair(role, p, None, x.shape, bits)
    first = Long.constants([constant(series, fraction, gain)])[None, :] * one
    factors = Long.joined([first, Long.of_integers(_factors(series, flat(x.words), fraction, gain))])
    words, width, parts = coming.take(), len(each), _products(powers, one)
    y = None
    for index in range(count - 1):
        block = (words[:, index * width : (index + 1) * width] * factors).total()
        term = block * parts[index][:, 0]
        y = term if y is None else y + term
    rest = (words[:, (count - 1) * width :] * factors[:, 1:]).total()
    if role == U:
        rest = rest + first[:, 0]
    assert y is not None
    return LongPair(role, p, y + rest * parts[-1][:, 0], x.shape, bits)


def _products(powers: Sequence[LongSplit], one: Long) -> list[Long]:
    """The products of all subsets of this party's parts, (n, 1) each, from none of them to all."""
    found = [one]
    for power in powers:
        part = power.words[:, None]
        found = [*found, *(product * part for product in found)]
    return found


def series_times_cost(
    series: Series, elements: int, bits: int, fraction: int, gain: float = 1.0, powers: int = 1
) -> Cost:
    each = [bits, *widths(series, fraction, gain, bits)]
    return deal_long_cost(elements, [*(each * ((1 << powers) - 1)), *each[1:]])
