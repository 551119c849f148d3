"""Separable evaluation: a Fourier series of A + B in one message (docs/protocols.md, "Series").

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
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, nothing, taken
from onnxpuma.mpc.protocols import circle
from onnxpuma.mpc.protocols.circle import Integers
from onnxpuma.mpc.protocols.convert import deal, deal_cost
from onnxpuma.mpc.protocols.exp_softmax import tables as exp_tables
from onnxpuma.mpc.ring.words import Words, from_integers, reduced, resized, word_type


@dataclass(frozen=True)
class Series:
    """A Fourier series of speed * x over one `period` (a power of two), and an activation around it.

    Inside its window of `width` units an activation is linear * x and the series; left of it the constant
    `left`, right of it slope * x + right. `speed`: an odd number and the power of two it is divided by, so
    that a period need not be a power of two in x. angle_bits: resolution of the argument. precision: fraction
    bits of a twin's factors, and of a dealt cosine of amplitude one.
    """

    name: str
    period: int
    coefficients: tuple[float, ...]  # c_0, then c_m, s_m for each harmonic m
    orders: tuple[int, ...] = ()  # the harmonics; all from the first where this is empty
    speed: tuple[int, int] = (1, 1)
    angle_bits: int = 16
    precision: int = 13
    linear: float = 0.0
    unit: float = 1.0
    width: int = 0
    left: float = 0.0
    slope: float = 0.0
    right: float = 0.0

    @property
    def harmonics(self) -> int:
        return (len(self.coefficients) - 1) // 2

    @cached_property
    def multiples(self) -> tuple[int, ...]:
        return self.orders or tuple(range(1, self.harmonics + 1))

    @cached_property
    def period_bits(self) -> int:
        return self.period.bit_length() - 1


@lru_cache(maxsize=1)
def all_series() -> dict[str, Series]:
    """The series of series.json by name."""
    text = resources.files("onnxpuma.mpc.protocols").joinpath("series.json").read_text()
    result = {}
    for name, entry in json.loads(text).items():
        lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
        result[name] = Series(name=name, **{**{k: v for k, v in entry.items() if k != "error"}, **lists})
    return result


@lru_cache(maxsize=256)
def _dealt_tables(index_bits: int, fraction: int, bits: int) -> tuple[Words, Words]:
    cosine, sine = circle.whole(index_bits, fraction)
    return from_integers(cosine, bits), from_integers(sine, bits)


_EXTRA = 28  # fraction bits of coefficients: the products are made in integers and rounded once


@lru_cache(maxsize=256)
def _integer_coefficients(series: Series, gain: float) -> list[tuple[int, int]]:
    scaled = np.rint(np.array(series.coefficients) * gain * (1 << _EXTRA)).astype(np.int64).tolist()
    return list(zip(scaled[1::2], scaled[2::2], strict=True))


def _combined(c: int, s: int, cosine: Integers, sine: Integers) -> tuple[Integers, Integers]:
    """What multiplies the dealt cosine and the dealt sine, given the twin's own: exact."""
    half, by = np.int64(1 << (_EXTRA - 1)), np.int64(_EXTRA)
    return (c * cosine + s * sine + half) >> by, (s * cosine - c * sine + half) >> by


@lru_cache(maxsize=256)
def _dealt_fractions(series: Series, fraction: int, gain: float) -> list[int]:
    """Fraction bits of each harmonic's dealt cosine and sine: the smaller its amplitude, the fewer.

    What a rounding of the dealt value does is multiplied by the amplitude, so all harmonics are given the
    same share of the error: `fraction` bits at amplitude one. Whole numbers, the same at all parties.
    """
    found = []
    for c, s in _integer_coefficients(series, gain):
        logarithm = ((c * c + s * s).bit_length() + 1) // 2 - _EXTRA
        found.append(max(fraction + logarithm, 2))
    return found


@lru_cache(maxsize=64)
def _twin_tables(
    series: Series, gain: float, index_bits: int, fraction: int, bits: int
) -> list[tuple[Words, Words]]:
    """For each harmonic the two factors at the scale of the sum, indexed by m B mod 2^k."""
    dealt = _dealt_fractions(series, fraction, gain)
    tables = []
    for (c, s), own in zip(_integer_coefficients(series, gain), dealt, strict=True):
        pair = _combined(c, s, *circle.whole(index_bits, fraction))
        scale = np.int64(1 << (max(dealt) - own))
        tables.append((from_integers(pair[0] * scale, bits), from_integers(pair[1] * scale, bits)))
    return tables


def _fine(words: Words, harmonic: int, bits: int, fraction: int) -> tuple[Integers, Integers]:
    """Cosine and sine of 2 pi m w / 2^bits, for bits above the tables'."""
    angle = reduced(words * words.dtype.type(harmonic), bits)
    return circle.points(angle.astype(np.int64), bits, fraction)


TABLE_BITS = 17  # up to here one table entry for each angle; above it products of two smaller tables


def result_fraction(series: Series, fraction: int, gain: float = 1.0) -> int:
    """Fraction bits of what `evaluate_series` returns."""
    return fraction + max(_dealt_fractions(series, fraction, gain))


def evaluate_series(
    party: Party, series: Series, x: Split, fraction: int, bits: int, gain: float = 1.0
) -> Protocol[Pair]:
    """Split(p), 2^k one period, to Pair(p) of gain * series, `result_fraction` bits, mod 2^bits.

    A harmonic of small amplitude is dealt with fewer fraction bits, in a ring of as many fewer bits: what it
    adds to the sum is shifted up again. Error: the fit's, and rounding of about 2^-fraction for each
    harmonic. Tables of 2^k entries up to k = TABLE_BITS (for many elements); products of two smaller tables
    above (for one element a row; k at most 31, fraction at most 28). Masks: F_{p+1}.
    Rounds: 1, one way and known to the pivot at once; bits: `series_cost`.
    """
    p, role, k, n = x.pivot, party.role(x.pivot), x.bits, x.size
    fine = k > TABLE_BITS
    dealt = _dealt_fractions(series, fraction, gain)
    largest = max(dealt)
    widths = [bits - (largest - own) for own in dealt]
    if role == PIVOT:
        words = np.ascontiguousarray(x.words).reshape(-1)
        for m, own, width in zip(series.multiples, dealt, widths, strict=True):
            if fine:
                values = [from_integers(value, width) for value in _fine(words, m, k, own)]
            else:
                values = [ring.gather_table(table, words, m, 0, k) for table in _dealt_tables(k, own, width)]
            for value in values:
                deal(party, p, value, (n,), width)
        yield
        return Pair(role, p, nothing(x.shape, bits), Format(bits, fraction + largest))
    halves = [deal(party, p, None, (n,), width) for width in widths for _ in range(2)]
    yield
    words = np.ascontiguousarray(x.words).reshape(-1)
    constant = round(series.coefficients[0] * gain * (1 << (fraction + largest))) if role == U else 0
    y = np.full(n, from_integers(constant, bits), word_type(bits))
    arrived = (resized(taken(half), bits) for half in halves)
    if fine:
        parts = zip(series.multiples, _integer_coefficients(series, gain), dealt, strict=True)
        for m, (c, s), own in parts:
            scale = np.int64(1 << (largest - own))
            for factor in _combined(c, s, *_fine(words, m, k, fraction)):
                y += next(arrived) * from_integers(factor * scale, bits)
    else:
        factors = _twin_tables(series, gain, k, fraction, bits)
        for m, pair in zip(series.multiples, factors, strict=True):
            for table in pair:
                ring.axpy(y, table, words, m, 0, k, next(arrived))
    return Pair(role, p, y.reshape(x.shape), Format(bits, fraction + largest))


def series_cost(series: Series, elements: int, fraction: int, bits: int, gain: float = 1.0) -> Cost:
    dealt = _dealt_fractions(series, fraction, gain)
    return Cost(1, sum(2 * deal_cost(elements, bits - (max(dealt) - own)).bits for own in dealt))


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """A digest of every table that both twins must hold alike, sixteen hexadecimal digits.

    The tables are made by integer arithmetic, so one version of the package gives one digest on every
    machine. Parties whose digests differ must not compute together: their results would be random words.
    """
    digest = hashlib.sha256(bytes([_EXTRA]))
    for name, series in sorted(all_series().items()):
        digest.update(name.encode())
        shape = (series.period, *series.speed, series.angle_bits, series.precision, *series.multiples)
        digest.update(np.array([*shape, *series.coefficients], "<f8").tobytes())
    arcs = (circle.whole(17, 12), circle.whole(13, 24), circle.arc(26, 13, 24))
    for table in (*(t for pair in arcs for t in pair), *exp_tables()):
        digest.update(table.astype("<u8").tobytes())
    return digest.hexdigest()[:16]
