"""Cosines and sines of the points of a circle, as exact integers.

The twins of a separable evaluation multiply random words by factors from these tables, so one unit of
difference between two machines would spoil every result. Floating-point cosines differ in the last place from
one machine to the next; integer arithmetic alone yields these.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.ring.arrays import exact, joined, looked_up, stacked

Integers: TypeAlias = npt.NDArray[np.int64]

_PRECISION = 96  # fraction bits of intermediate values; the tables need at most 30


@lru_cache(maxsize=64)
def _root(bits: int) -> tuple[int, int]:
    """Cosine and sine of 2 pi / 2^bits at _PRECISION bits, by halving the quarter turn."""
    if bits == 0:
        return 1 << _PRECISION, 0
    if bits == 1:
        return -1 << _PRECISION, 0
    cosine, _ = _root(bits - 1)
    half = ((1 << _PRECISION) + cosine) >> 1  # cos^2 of half the angle
    other = (1 << _PRECISION) - half
    return isqrt(half << _PRECISION), isqrt(other << _PRECISION)


KEPT = 60  # fraction bits of the stored tables, from which every coarser one is rounded
CUT = 30  # fraction bits of those that the kernel rounds


@lru_cache(maxsize=8)
def _stored(bits: int, count_bits: int) -> tuple[Integers, Integers]:
    """Cosine and sine of 2 pi i / 2^bits for i below 2^count_bits, with KEPT bits.

    Of a whole circle an eighth is computed and mirrored, since integers of arbitrary size take their time.
    """
    if bits != count_bits or bits < 3:
        return _turned(bits, count_bits)
    cosine, sine = _turned(bits, bits - 3)
    middle = tuple((exact([x]) >> (_PRECISION - KEPT)).astype(np.int64) for x in _root(3))
    quarter = joined([cosine, middle[0], sine[:0:-1]]), joined([sine, middle[1], cosine[:0:-1]])
    half = joined([quarter[0], -quarter[1]]), joined([quarter[1], quarter[0]])
    return joined([half[0], -half[0]]), joined([half[1], -half[1]])


def _turned(bits: int, count_bits: int) -> tuple[Integers, Integers]:
    """`_stored`, each half of the points from the half before."""
    cosine, sine = exact([1 << _PRECISION]), exact([0])
    for place in range(count_bits):
        c, s = _root(bits - place)
        turned = (cosine * c - sine * s) >> _PRECISION, (sine * c + cosine * s) >> _PRECISION
        cosine, sine = joined([cosine, turned[0]]), joined([sine, turned[1]])
    by = _PRECISION - KEPT
    return (cosine >> by).astype(np.int64), (sine >> by).astype(np.int64)


@lru_cache(maxsize=32)
def arc(bits: int, count_bits: int, fraction: int) -> tuple[Integers, Integers]:
    """Cosine and sine of 2 pi i / 2^bits for i below 2^count_bits, with `fraction` bits, at most KEPT."""
    cosine, sine = _stored(bits, count_bits)
    if fraction == KEPT:
        return cosine, sine
    half, by = np.int64(1 << (KEPT - fraction - 1)), np.int64(KEPT - fraction)
    return (cosine + half) >> by, (sine + half) >> by


def whole(bits: int, fraction: int) -> tuple[Integers, Integers]:
    """Cosine and sine of all 2^bits points."""
    return arc(bits, bits, fraction)


@lru_cache(maxsize=16)
def turns(bits: int, fraction: int) -> npt.NDArray[np.signedinteger[Any]]:
    """Cosine and sine of all 2^bits points side by side, (2^bits, 2), in the narrowest type.

    All harmonics of a series share it, so it stays in a cache where tables of their own would not.
    """
    return stacked(whole(bits, fraction), axis=1).astype(_narrowest(fraction))


@lru_cache(maxsize=16)
def cut_turns(bits: int) -> npt.NDArray[np.signedinteger[Any]]:
    """As `turns`, with CUT fraction bits and the others dropped: rounded to fewer bits, it is what KEPT
    yields."""
    return (stacked(whole(bits, KEPT), axis=1) >> np.int64(KEPT - CUT)).astype(_narrowest(CUT))


def _narrowest(fraction: int) -> type[np.signedinteger[Any]]:
    """A type for numbers from -1 to 1."""
    if fraction <= 14:
        return np.int16
    return np.int32 if fraction <= 30 else np.int64


def points(index: Integers, bits: int, fraction: int) -> tuple[Integers, Integers]:
    """Cosine and sine of 2 pi i / 2^bits for many bits (up to 31): products of two small tables, rounded.

    index: reduced mod 2^bits. fraction at most 30. Error: one unit.
    """
    low_bits = bits // 2
    low, high = index & ((1 << low_bits) - 1), index >> low_bits
    cos_low, sin_low = (looked_up(table, low) for table in arc(bits, low_bits, fraction))
    cos_high, sin_high = (looked_up(table, high) for table in whole(bits - low_bits, fraction))
    half, by = np.int64(1 << (fraction - 1)), np.int64(fraction)
    cosine = (cos_high * cos_low - sin_high * sin_low + half) >> by
    sine = (sin_high * cos_low + cos_high * sin_low + half) >> by
    return cosine, sine
