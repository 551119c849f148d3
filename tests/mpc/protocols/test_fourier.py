"""Fourier series on shares: the exact tables of the circle, and the evaluation with and without tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols import circle
from onnxpuma.mpc.protocols.fourier import Series, all_series, evaluate_series, result_fraction
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(13)


def exact(series: Series, x: np.ndarray) -> np.ndarray:
    """The series in float64 at angles x of a circle."""
    value = np.full(x.shape, series.coefficients[0])
    for m, c, s in zip(series.multiples, series.coefficients[1::2], series.coefficients[2::2], strict=True):
        value += c * np.cos(m * x) + s * np.sin(m * x)
    return value


def evaluated(series: Series, words: np.ndarray, k: int, fraction: int, bits: int, gain: float = 1.0) -> Any:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        return (yield from evaluate_series(party, series, see(party, x, 1), fraction, bits, gain))

    return simulate(program, shared_words(from_integers(words, k), k))


@pytest.mark.parametrize(("bits", "fraction"), [(2, 3), (3, 12), (10, 14), (13, 24), (16, 12), (16, 30)])
def test_the_circle_is_rounded_correctly(bits: int, fraction: int) -> None:
    cosine, sine = circle.whole(bits, fraction)
    angle = 2 * np.pi * np.arange(1 << bits) / (1 << bits)
    for table, function in ((cosine, np.cos), (sine, np.sin)):
        assert table.dtype == np.int64
        assert np.abs(table - function(angle) * 2.0**fraction).max() <= 0.5 + 1e-6
    assert np.array_equal(sine, np.roll(cosine, (1 << bits) // 4))
    assert (cosine[0], sine[0]) == (1 << fraction, 0)


@pytest.mark.parametrize("bits", [3, 4, 9, 12])
def test_a_mirrored_circle_is_the_computed_one(bits: int) -> None:
    """At every scale of the tables: the mirrored values may differ in their last stored bit."""
    for mirrored, computed in zip(circle._stored(bits, bits), circle._turned(bits, bits), strict=True):
        for by in range(30, 60):
            half = np.int64(1 << (by - 1))
            assert np.array_equal((mirrored + half) >> by, (computed + half) >> by)


@pytest.mark.parametrize(("bits", "count_bits", "fraction"), [(26, 13, 24), (20, 5, 30), (31, 15, 28)])
def test_an_arc_is_rounded_correctly(bits: int, count_bits: int, fraction: int) -> None:
    cosine, sine = circle.arc(bits, count_bits, fraction)
    angle = 2 * np.pi * np.arange(1 << count_bits) / (1 << bits)
    assert np.abs(cosine - np.cos(angle) * 2.0**fraction).max() <= 0.5 + 1e-6
    assert np.abs(sine - np.sin(angle) * 2.0**fraction).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("bits", "fraction"), [(26, 24), (31, 28), (20, 12)])
def test_points_of_a_fine_circle(bits: int, fraction: int) -> None:
    quarter = 1 << (bits - 2)
    index = np.concatenate(
        [[0, 1, quarter, 2 * quarter, 3 * quarter, 4 * quarter - 1], RNG.integers(0, 4 * quarter, 9999)]
    )
    angle = 2 * np.pi * index / (1 << bits)
    cosine, sine = circle.points(index, bits, fraction)
    assert np.abs(cosine - np.cos(angle) * 2.0**fraction).max() <= 2.0
    assert np.abs(sine - np.sin(angle) * 2.0**fraction).max() <= 2.0


@pytest.mark.parametrize("name", ["gelu", "tanh", "sigmoid", "silu"])
def test_a_series_from_tables(name: str) -> None:
    """The only error is the rounding of cosines and factors; there is no bias."""
    series, k, fraction = all_series()[name], 16, 13
    words = RNG.integers(0, 1 << k, 40_000)
    run = evaluated(series, words, k, fraction, 44)
    assert run.results[0].fraction == result_fraction(series, fraction)
    error = run.value() - exact(series, words * 2 * np.pi / 2**k)
    assert error.std() < 1.2 * 2.0**-fraction * series.harmonics**0.5
    assert np.abs(error).max() < 6 * 2.0**-fraction * series.harmonics**0.5
    assert abs(error.mean()) < 5 * error.std() / len(words) ** 0.5 + 2.0 ** -(fraction + 4)


def test_every_share_of_a_value_gives_the_same() -> None:
    series, k = Series("small", 4, (0.5, 1.0, -0.75, 0.25, 0.5)), 6
    values, b = (w.reshape(-1) for w in np.meshgrid(np.arange(64), np.arange(64)))

    def program(party: Party) -> Protocol[Any]:
        words = from_integers(values - b if party.role(0) == PIVOT else b, k)
        return (
            yield from evaluate_series(party, series, Split(party.role(0), 0, words, Format(k, 0)), 14, 40)
        )

    assert np.abs(simulate(program).value() - exact(series, values * 2 * np.pi / 64)).max() < 2.0**-11


def test_a_series_of_chosen_harmonics() -> None:
    series, k = Series("odd", 4, (0.25, 0.0, 1.0, 0.0, -0.5), orders=(1, 3)), 16
    words = RNG.integers(0, 1 << k, 3000)
    angle = words * 2 * np.pi / 2**k
    expected = 0.25 + np.sin(angle) - 0.5 * np.sin(3 * angle)
    assert np.abs(evaluated(series, words, k, 14, 40).value() - expected).max() < 2.0**-11


def test_a_series_knows_its_period() -> None:
    for series in all_series().values():
        assert series.period == 1 << series.period_bits
        assert len(series.coefficients) == 2 * series.harmonics + 1
        assert len(series.multiples) == series.harmonics
        faster, steps = series.speed
        assert faster % 2 == 1
        assert steps & (steps - 1) == 0
