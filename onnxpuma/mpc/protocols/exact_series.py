"""A Fourier series of one element a row, exact until it is complete (docs/protocols.md, "Reciprocals").

As in fourier.py the pivot deals cosines and sines of A, and the twins multiply by factors of B. Here all of
these are exact integers, in a ring of up to 128 bits that holds the whole product: with a second factor, the
power that undoes a scaling, whose part A multiplies what is dealt and whose part B the twins' sums. What is
left to do is one shift to the right, which the twins do alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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


@dataclass(frozen=True, eq=False)
class Exact:
    """A series at one scale, and what follows from its coefficients alone."""

    constant: Long  # c_0 at the scale of the result, (1, 1)
    multiples: Words  # (harmonics,)
    less: Integers  # fraction bits that the dealt cosines and sines have below _POINT, (2 harmonics,)
    by: int  # the same for the twins' factors
    up: Integers  # bits that a dealt cosine or sine has below the finest of them, (2 harmonics,)
    same: Integers  # of a twin's cosines and sines in the factors of the dealt ones, (2 harmonics,)
    other: Integers  # the same of its sines and cosines


@lru_cache(maxsize=128)
def exact(series: Series, fraction: int, gain: float) -> Exact:
    """gain * series, of which a cosine of amplitude one is dealt with `fraction` bits."""
    own = dealt_fractions(series, fraction, gain) * 2
    c, s = zip(*integer_coefficients(series, gain), strict=True)
    constant = round(series.coefficients[0] * gain * (1 << result_fraction(series, fraction, gain)))
    return Exact(
        Long.constants([constant])[None, :],
        from_integers(series.multiples, ARGUMENT_BITS),
        _POINT - integers(own),
        EXTRA + _POINT - fraction,
        max(own) - integers(own),
        integers([*c, *(-each for each in c)]),
        integers([*s, *s]),
    )


def _points(series: Exact, words: Words) -> tuple[Integers, Integers]:
    """Cosines and sines of m w for each harmonic m, w in turns of 2^ARGUMENT_BITS: (n, harmonics)."""
    angles = reduced(words[:, None] * series.multiples, ARGUMENT_BITS)
    return circle.points(angles.astype(np.int64), ARGUMENT_BITS, _POINT)


def _rounded(value: Integers, shift: int | Integers) -> Integers:
    by = integers(shift)
    return (value + ((np.int64(1) << by) >> np.int64(1))) >> by


def _dealt(series: Exact, a: Words) -> Integers:
    """Cosines, then sines of A's angles, each with the fraction bits of its harmonic: (n, 2 harmonics)."""
    return _rounded(joined(_points(series, a), axis=1), series.less)


def _factors(series: Exact, b: Words) -> Integers:
    """The twins' factors of the dealt cosines and sines, at the scale of the sum: (n, 2 harmonics)."""
    cosine, sine = _points(series, b)
    both = series.same * joined([cosine, sine], axis=1) + series.other * joined([sine, cosine], axis=1)
    return _rounded(both, series.by) << series.up


@lru_cache(maxsize=256)
def widths(series: Series, fraction: int, gain: float, bits: int) -> tuple[int, ...]:
    """Bits in which each cosine and each sine is dealt: its factor supplies the rest."""
    own = dealt_fractions(series, fraction, gain)
    return tuple(max(bits - (max(own) - each), 1) for each in own) * 2


@lru_cache(maxsize=256)
def _times_widths(
    series: Series, fraction: int, gain: float, bits: int, powers: int
) -> tuple[tuple[int, ...], int]:
    """What `series_times` deals: the bits of each column, and the columns that one product is dealt in."""
    each = (bits, *widths(series, fraction, gain, bits))
    return (*(each * ((1 << powers) - 1)), *each[1:]), len(each)


def series_long(
    party: Party, series: Series, x: Split, bits: int, fraction: int, gain: float = 1.0
) -> Protocol[LongPair]:
    """gain * series(x), (n,), mod 2^bits, exact but for the tables: `result_fraction` fraction bits.

    x has ARGUMENT_BITS bits, one period. Amplitudes are below 8. Error: the fit's, and rounding of about
    2^-fraction for each harmonic. Masks: F_{p+1}. Rounds: 1, one way from the pivot, which knows its part at
    once; bits: `series_long_cost`.
    """
    p, role, n = x.pivot, party.role(x.pivot), x.size
    scaled = exact(series, fraction, gain)
    dealt = Long.of_integers(_dealt(scaled, flat(x.words))) if role == PIVOT else None
    coming = deal_long(party, p, dealt, n, widths(series, fraction, gain, bits))
    yield
    if role == PIVOT:
        return LongPair(role, p, None, x.shape, bits)
    y = coming.take().dot(Long.of_integers(_factors(scaled, flat(x.words))))
    if role == U:
        y = y + scaled.constant[0]
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
    one, scaled = Long.of_words(filled((n, 1), 1, WIDEST)), exact(series, fraction, gain)
    wide, width = _times_widths(series, fraction, gain, bits, len(powers))
    dealt = None
    if role == PIVOT:
        values = Long.of_integers(_dealt(scaled, flat(x.words)))
        each = Long.joined([one, values])
        # the twins know the one that multiplies the constant
        dealt = Long.joined([*(each * product for product in _products(powers)[::-1]), values])
    coming = deal_long(party, p, dealt, n, wide)
    yield
    if role == PIVOT:
        return LongPair(role, p, None, x.shape, bits)
    first = scaled.constant * one
    factors = Long.joined([first, Long.of_integers(_factors(scaled, flat(x.words)))])
    words, parts = coming.take(), _products(powers)
    y = words[:, :width].dot(factors)
    for index, part in enumerate(parts):
        start = (index + 1) * width
        if index + 1 < len(parts):
            block = words[:, start : start + width].dot(factors)
        else:
            block = words[:, start:].dot(factors[:, 1:])
            block = block + first[:, 0] if role == U else block
        y = y + block * part[:, 0]
    return LongPair(role, p, y, x.shape, bits)


def _products(powers: Sequence[LongSplit]) -> list[Long]:
    """The products of this party's parts over all subsets of the powers but the empty one, (n, 1) each, that
    of all of them last."""
    found: list[Long] = []
    for power in powers:
        part = power.words[:, None]
        found = [*found, part, *(product * part for product in found)]
    return found


def series_times_cost(
    series: Series, elements: int, bits: int, fraction: int, gain: float = 1.0, powers: int = 1
) -> Cost:
    return deal_long_cost(elements, _times_widths(series, fraction, gain, bits, powers)[0])
