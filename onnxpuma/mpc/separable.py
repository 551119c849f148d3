"""Separable evaluation: a Fourier series of A + B in one message (protocols.md, sections 4 and 6).

f(x) = c_0 + sum_m c_m cos(m t) + s_m sin(m t), t = 2 pi x / L, with the ring chosen so that 2^k is one
period: then the wrap of A + B is harmless. The pivot deals cos(m t_A) and sin(m t_A); each twin multiplies
its half by what it makes of B. Everything a twin multiplies by is an exact integer made from the same
tables: both twins must use the very same one, whatever machine they run on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.convert import deal, deal_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.party import PIVOT, U, Party, Protocol, nothing, taken
from onnxpuma.mpc.shares import Pair, Split
from onnxpuma.mpc.words import Words, from_integers, resized, word_type


@dataclass(frozen=True)
class Series:
    """A Fourier series over one `period` (a power of two), and the tails of an activation beyond its window."""

    name: str
    period: int
    coefficients: tuple[float, ...]  # c_0, c_1, s_1, c_2, s_2, ...
    unit: float = 1.0
    width: int = 0
    left: float = 0.0
    slope: float = 0.0
    right: float = 0.0

    @property
    def harmonics(self) -> int:
        return (len(self.coefficients) - 1) // 2

    @cached_property
    def period_bits(self) -> int:
        return self.period.bit_length() - 1


@lru_cache(maxsize=1)
def all_series() -> dict[str, Series]:
    """The series of series.json by name."""
    text = resources.files("onnxpuma.mpc").joinpath("series.json").read_text()
    result = {}
    for name, entry in json.loads(text).items():
        entry = {k: v for k, v in entry.items() if k != "error"}
        result[name] = Series(name=name, **{**entry, "coefficients": tuple(entry["coefficients"])})
    return result


@lru_cache(maxsize=8)
def _circle(index_bits: int, fraction: int) -> np.ndarray:
    """cos(2 pi i / 2^index_bits) with `fraction` bits, as int64; the sine is this a quarter turn back."""
    angle = 2 * np.pi * np.arange(1 << index_bits) / (1 << index_bits)
    return np.rint(np.cos(angle) * (1 << fraction)).astype(np.int64)


@lru_cache(maxsize=256)
def _dealt_tables(index_bits: int, fraction: int, bits: int) -> tuple[Words, Words]:
    cosine = _circle(index_bits, fraction)
    sine = np.roll(cosine, (1 << index_bits) // 4)
    return from_integers(cosine, bits), from_integers(sine, bits)


_EXTRA = 20  # fraction bits of coefficients: the products are made in integers and rounded once


@lru_cache(maxsize=256)
def _integer_coefficients(name: str, gain: float) -> list[tuple[int, int]]:
    scaled = (
        np.rint(np.array(all_series()[name].coefficients) * gain * (1 << _EXTRA)).astype(np.int64).tolist()
    )
    return list(zip(scaled[1::2], scaled[2::2], strict=True))


def _combined(c: int, s: int, cosine: np.ndarray, sine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What multiplies the dealt cosine and the dealt sine, given the twin's own: int64, exact."""
    half, by = np.int64(1 << (_EXTRA - 1)), np.int64(_EXTRA)
    return (c * cosine + s * sine + half) >> by, (s * cosine - c * sine + half) >> by


@lru_cache(maxsize=64)
def _twin_tables(
    name: str, gain: float, index_bits: int, fraction: int, bits: int
) -> list[tuple[Words, Words]]:
    """For each harmonic the two factors, indexed by m B mod 2^k."""
    cosine = _circle(index_bits, fraction)
    sine = np.roll(cosine, (1 << index_bits) // 4)
    both = (_combined(c, s, cosine, sine) for c, s in _integer_coefficients(name, gain))
    return [(from_integers(x, bits), from_integers(y, bits)) for x, y in both]


def _fine_circle(words: Words, bits: int, fraction: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of 2 pi w / 2^bits for bits above 16: exact integer products of two small tables."""
    low_bits = bits // 2
    angle = (words & words.dtype.type((1 << bits) - 1)).astype(np.int64)
    low, high = angle & ((1 << low_bits) - 1), angle >> low_bits
    coarse, turn = _circle(bits - low_bits, fraction), 2 * np.pi * np.arange(1 << low_bits) / (1 << bits)
    scale, half = 1 << fraction, np.int64(1 << (fraction - 1))
    cos_low, sin_low = (
        np.rint(np.cos(turn) * scale).astype(np.int64)[low],
        np.rint(np.sin(turn) * scale).astype(np.int64)[low],
    )
    cos_high, sin_high = coarse[high], np.roll(coarse, len(coarse) // 4)[high]
    cosine = (cos_high * cos_low - sin_high * sin_low + half) >> np.int64(fraction)
    sine = (sin_high * cos_low + cos_high * sin_low + half) >> np.int64(fraction)
    return cosine, sine


def evaluate_series(
    party: Party, series: Series, x: Split, fraction: int, bits: int, gain: float = 1.0
) -> Protocol[Pair]:
    """Split(p), 2^k one period, to Pair(p) of gain * series with 2 * fraction fraction bits mod 2^bits.

    Error: the fit's, and rounding of about 2^-fraction times the root of the sum of the squared
    coefficients. Tables of 2^k entries up to k = 16 (for many elements); products of two smaller tables
    above (for one element a row; fraction at most 28). Masks: F_{p+1}.
    Rounds: 1, one way and known to the pivot at once; bits: 2 * harmonics * `bits`.
    """
    p, role, k, n = x.pivot, party.role(x.pivot), x.bits, x.size
    fine = k > 16
    if role == PIVOT:
        words = np.ascontiguousarray(x.words).reshape(-1)
        for m in range(1, series.harmonics + 1):
            if fine:
                dealt = [
                    from_integers(table, bits)
                    for table in _fine_circle(words * words.dtype.type(m), k, fraction)
                ]
            else:
                dealt = [
                    ring.gather_table(table, words, m, 0, k) for table in _dealt_tables(k, fraction, bits)
                ]
            for value in dealt:
                deal(party, p, value, (n,), bits)
        yield
        return Pair(role, p, nothing(x.shape, bits), bits, 2 * fraction)
    halves = [deal(party, p, None, (n,), bits) for _ in range(2 * series.harmonics)]
    yield
    words = np.ascontiguousarray(x.words).reshape(-1)
    constant = (
        from_integers(round(series.coefficients[0] * gain * (1 << 2 * fraction)), bits) if role == U else 0
    )
    y = np.full(n, constant, word_type(bits))
    if fine:
        for m, (c, s) in enumerate(_integer_coefficients(series.name, gain), start=1):
            for factor in _combined(c, s, *_fine_circle(words * words.dtype.type(m), k, fraction)):
                y += resized(taken(halves.pop(0)), bits) * from_integers(factor, bits)
    else:
        for m, tables in enumerate(_twin_tables(series.name, gain, k, fraction, bits), start=1):
            for table in tables:
                ring.axpy(y, table, words, m, 0, k, resized(taken(halves.pop(0)), bits))
    return Pair(role, p, y.reshape(x.shape), bits, 2 * fraction)


def series_cost(series: Series, elements: int, bits: int) -> Cost:
    return Cost(1, 2 * series.harmonics * deal_cost(elements, bits).bits)


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """A digest of every table a twin multiplies by: parties whose digests differ must not compute together."""
    digest = hashlib.sha256()
    for name in sorted(all_series()):
        digest.update(name.encode() + np.array(all_series()[name].coefficients).tobytes())
    digest.update(_circle(16, 24).tobytes() + _circle(16, 12).tobytes())
    from onnxpuma.mpc.exp import tables

    for table in tables():
        digest.update(table.tobytes())
    return digest.hexdigest()[:16]
