"""Separable evaluation: a Fourier series of A + B in one message (docs/protocols.md, "Series").

f(x) = c_0 + sum_m c_m cos(m t) + s_m sin(m t), t = 2 pi x / L. The ring is chosen so that 2^k is one period,
which makes the wrap of A + B harmless. The pivot deals cos(m t_A) and sin(m t_A); each twin multiplies its
halves by factors of B. These factors are exact integers from tables, because both twins must use the same
ones, whatever machines they run on.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.protocols import circle
from onnxpuma.mpc.protocols.circle import Integers
from onnxpuma.mpc.protocols.convert import deal, deal_cost
from onnxpuma.mpc.protocols.gumbel import table as noise_table
from onnxpuma.mpc.protocols.powers import tables as powers_of_e
from onnxpuma.mpc.ring.arrays import filled, flat, integers, nothing
from onnxpuma.mpc.ring.steps import series_points, series_sum
from onnxpuma.mpc.ring.words import Words, from_integers, resized


@dataclass(frozen=True)
class Series:
    """A Fourier series of speed * x, and an activation around it.

    The activation is linear * x plus the series inside the window, `left` to the left of it, and
    slope * x + right to the right of it.
    """

    name: str
    period: int  # of speed * x: a power of two
    coefficients: tuple[float, ...]  # c_0, then c_m, s_m for each harmonic m
    orders: tuple[int, ...] = ()  # the harmonics; empty: 1, 2, 3 ...
    speed: tuple[int, int] = (1, 1)  # an odd number over a power of two, so that x may have any period
    angle_bits: int = 16  # of the argument
    precision: int = 13  # fraction bits of a twin's factors, and of a dealt cosine of amplitude one
    read: int = 14  # fraction bits of x as the activation reads it
    linear: float = 0.0
    unit: float = 1.0  # of the window's width, a power of two
    width: int = 0  # of the window, in units
    left: float = 0.0
    slope: float = 0.0
    right: float = 0.0
    least: float = 0.0  # of the series in the window
    most: float = 0.0

    def __hash__(self) -> int:
        """Of the name: tables are looked up by their series, and its coefficients are many."""
        return hash(self.name)

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


EXTRA = 28  # fraction bits of coefficients: integers multiply them, and the result is rounded once


@lru_cache(maxsize=256)
def integer_coefficients(series: Series, gain: float) -> list[tuple[int, int]]:
    scaled = np.rint(np.multiply(series.coefficients, gain) * (1 << EXTRA)).astype(np.int64).tolist()
    return list(zip(scaled[1::2], scaled[2::2], strict=True))


def _combined(c: int, s: int, cosine: Integers, sine: Integers) -> tuple[Integers, Integers]:
    """The factors of the dealt cosine and sine, from the twin's own cosine and sine; exact."""
    half, by = np.int64(1 << (EXTRA - 1)), np.int64(EXTRA)
    return (c * cosine + s * sine + half) >> by, (s * cosine - c * sine + half) >> by


@lru_cache(maxsize=256)
def dealt_fractions(series: Series, fraction: int, gain: float) -> list[int]:
    """Fraction bits of each harmonic's dealt cosine and sine: the smaller its amplitude, the fewer.

    The amplitude multiplies the rounding error of a dealt value, so fewer bits give each harmonic the same
    share of the error: `fraction` bits at amplitude one. The same at all parties.
    """
    found = []
    for c, s in integer_coefficients(series, gain):
        logarithm = ((c * c + s * s).bit_length() + 1) // 2 - EXTRA
        found.append(max(fraction + logarithm, 2))
    return found


@lru_cache(maxsize=64)
def _twin_tables(
    series: Series, gain: float, index_bits: int, fraction: int, bits: int
) -> list[tuple[Words, Words]]:
    """For each harmonic m the two factors at the scale of the sum, indexed by m B mod 2^k."""
    dealt = dealt_fractions(series, fraction, gain)
    tables = []
    for (c, s), own in zip(integer_coefficients(series, gain), dealt, strict=True):
        pair = _combined(c, s, *circle.whole(index_bits, fraction))
        scale = np.int64(1 << (max(dealt) - own))
        tables.append((from_integers(pair[0] * scale, bits), from_integers(pair[1] * scale, bits)))
    return tables


@lru_cache(maxsize=256)
def _harmonics(series: Series, gain: float, fraction: int) -> Integers:
    """What `series_sum` reads of each harmonic."""
    dealt = dealt_fractions(series, fraction, gain)
    pairs = integer_coefficients(series, gain)
    return integers(
        [(m, c, s, max(dealt) - own) for m, (c, s), own in zip(series.multiples, pairs, dealt, strict=True)]
    )


def _points(series: Series, words: Words, bits: int, dealt: list[int], widths: list[int]) -> Sequence[Words]:
    """The cosine and the sine of each harmonic at A, with the fraction bits with which they are dealt."""
    less, multiples = integers([circle.CUT - own for own in dealt]), integers(series.multiples)
    points = series_points(words, bits, circle.cut_turns(bits), multiples, less, max(widths))
    if points is not None:
        return list(points)
    each = zip(series.multiples, dealt, widths, strict=True)
    return [
        ring.gather_table(t, words, m, 0, bits) for m, own, w in each for t in _dealt_tables(bits, own, w)
    ]


def result_fraction(series: Series, fraction: int, gain: float = 1.0) -> int:
    """Fraction bits of the result of `evaluate_series`."""
    return fraction + max(dealt_fractions(series, fraction, gain))


def evaluate_series(
    party: Party, series: Series, x: Split, fraction: int, bits: int, gain: float = 1.0
) -> Protocol[Pair]:
    """Split(p), 2^k one period, to Pair(p) of gain * series, `result_fraction` bits, mod 2^bits.

    The pivot deals a harmonic of small amplitude with fewer fraction bits, in a ring of as many fewer bits;
    the twins shift their products up again. Error: the fit's, and rounding of about 2^-fraction for each
    harmonic. Tables have 2^k entries, for many elements; exact_series.py takes finer arguments. Masks:
    F_{p+1}. Rounds: 1, one way from the pivot, which knows its part at once; bits: `series_cost`.
    """
    p, role, k, n = x.pivot, party.role(x.pivot), x.bits, x.size
    dealt = dealt_fractions(series, fraction, gain)
    largest = max(dealt)
    widths = [bits - (largest - own) for own in dealt]
    if role == PIVOT:
        points = _points(series, flat(x.words), k, dealt, widths)
        for place, words in enumerate(points):
            deal(party, p, words, (n,), widths[place // 2])
        yield
        return Pair(role, p, nothing(x.shape, bits), Format(bits, fraction + largest))
    halves = [deal(party, p, None, (n,), width) for width in widths for _ in range(2)]
    yield
    words = flat(x.words)
    constant = round(series.coefficients[0] * gain * (1 << (fraction + largest))) if role == U else 0
    arrived = [taken(half) for half in halves]
    y = filled(n, constant, bits, arrived[0])
    table = circle.turns(k, fraction)
    if not series_sum(y, words, k, table, _harmonics(series, gain, fraction), EXTRA, arrived):
        factors = _twin_tables(series, gain, k, fraction, bits)
        for place, (m, pair) in enumerate(zip(series.multiples, factors, strict=True)):
            for side, factor in enumerate(pair):
                ring.axpy(y, factor, words, m, 0, k, resized(arrived[2 * place + side], bits))
    return Pair(role, p, y.reshape(x.shape), Format(bits, fraction + largest))


def series_cost(series: Series, elements: int, fraction: int, bits: int, gain: float = 1.0) -> Cost:
    dealt = dealt_fractions(series, fraction, gain)
    return Cost(1, sum(2 * deal_cost(elements, bits - (max(dealt) - own)).bits for own in dealt))


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """A digest of all tables that both twins must have in common: sixteen hexadecimal digits.

    Integer arithmetic computes the tables, so one version of the package yields one digest on every machine.
    Parties with different digests must not compute together: their results would be random words.
    """
    digest = hashlib.sha256(bytes([EXTRA]))
    for name, series in sorted(all_series().items()):
        digest.update(name.encode())
        shape = (series.period, *series.speed, series.angle_bits, series.precision, *series.multiples)
        numbers = (*shape, *series.coefficients)
        digest.update(struct.pack(f"<{len(numbers)}d", *numbers))
    arcs = (circle.whole(17, 12), circle.whole(13, 30), circle.arc(26, 13, 30))
    digest.update(repr(noise_table()).encode())
    for table in (
        *(t for pair in arcs for t in pair),
        *powers_of_e(19, 15, -16)[:2],
        *powers_of_e(18, 15, -8)[:2],
    ):
        digest.update(table.astype("<u8").tobytes())
    return digest.hexdigest()[:16]
