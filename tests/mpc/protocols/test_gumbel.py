"""Noise whose parts add up to Gumbel variables, and draws where a part is missing or is drawn twice."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from onnxpuma.mpc.cost import FREE
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols import gumbel
from onnxpuma.mpc.simulate import shared_reals, simulate

COUNT = 100_000


def thirds(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    words = [random.integers(0, 1 << 64, count, np.uint64) for _ in range(2)]
    return gumbel.third(*words).view(np.int64) * 2.0**-gumbel.FRACTION


def characteristic(t: float) -> complex:
    """Of a third, from the table: whole steps, and four uniform variables of a step."""
    table, step = gumbel.table(), 2.0 ** (16 - gumbel.FRACTION)
    weights = np.array([w / 2.0**64 for w in table.weights])
    places = (np.arange(len(weights)) + table.lowest) * step
    return complex((weights * np.exp(1j * t * places)).sum() * np.sinc(step * t / 2 / math.pi) ** 4)


def test_the_table_adds_up_and_is_that_of_a_third() -> None:
    assert sum(gumbel.table().weights) == 1 << 64
    assert min(gumbel.table().weights) >= 0
    x = np.linspace(-12, 60, 2_000_001)
    density = np.exp(-x - np.exp(-x))
    for t in (0.1, 0.7, 2.0, 5.0, 11.0):
        exact = np.trapezoid(density * np.exp(1j * t * x), x)
        assert abs(characteristic(t) ** 3 - exact) < 1e-10


def test_three_parts_add_up_to_a_gumbel_variable() -> None:
    total = sum(thirds(COUNT, seed) for seed in range(3))
    assert stats.kstest(total, stats.gumbel_r.cdf).pvalue > 1e-4
    two = thirds(COUNT, 0) + thirds(COUNT, 1)
    assert stats.kstest(two, stats.gumbel_r.cdf).pvalue < 1e-100
    assert stats.kstest(3 * thirds(COUNT, 0), stats.gumbel_r.cdf).pvalue < 1e-100  # one part three times


@pytest.mark.parametrize(("scale", "fraction"), [(1.0, 12), (0.05, 17), (30.0, 12)])
def test_shared_noise_has_the_scale_and_costs_nothing(scale: float, fraction: int) -> None:
    def noise(party: Party, x: Replicated) -> Protocol[Replicated]:
        yield from ()
        return gumbel.gumbel(party, (20_000,), scale, Format(40, fraction))

    run = simulate(noise, shared_reals(np.zeros(1)))
    assert run.cost == FREE
    held = run.results
    for party in range(3):
        assert np.array_equal(held[party].second, held[(party + 1) % 3].first)
    parts = [np.asarray(h.first) for h in held]
    assert len({part.tobytes() for part in parts}) == 3
    assert stats.kstest(run.value() / scale, stats.gumbel_r.cdf).pvalue > 1e-4
    assert gumbel.LEAST * scale <= run.value().min()
    assert run.value().max() <= gumbel.MOST * scale


FINE = 12  # fraction bits at which rows are compared


@cache
def exact_noise() -> np.ndarray:
    """The probabilities of the sum of three parts, each rounded to 2^-FINE, from its lowest value on."""
    from scipy import signal  # whose import takes seconds, in every process that collects this test

    table, finer = gumbel.table(), gumbel.FRACTION - FINE
    uniform = np.full(1 << 16, 2.0**-16)
    four = signal.fftconvolve(signal.fftconvolve(uniform, uniform), signal.fftconvolve(uniform, uniform))
    # a part is (steps + lowest - 2) steps, plus these and two units, rounded to a multiple of 2^finer units
    places = (np.arange(len(four)) + 2 + (1 << (finer - 1))) >> finer
    smooth = np.bincount(places, four.clip(0))
    steps = np.zeros((len(table.weights) - 1) * (1 << 16 - finer) + 1)
    steps[:: 1 << 16 - finer] = [w / 2.0**64 for w in table.weights]
    part = signal.fftconvolve(steps, smooth).clip(0)
    whole = signal.fftconvolve(signal.fftconvolve(part, part), part).clip(0)
    found: np.ndarray = whole / whole.sum()
    return found


def chances(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The probability that one of `counts` ids of each score, in units of 2^-FINE, is drawn; of equal results
    the first wins, and ids of the first score come first."""
    noise = exact_noise()
    ends = np.minimum(np.cumsum(noise), 1.0)
    high = int(scores.max() - scores.min()) + len(noise)
    with np.errstate(divide="ignore"):
        logs = np.log(ends)
    found, grid = [], np.arange(high)

    def below(number: int, at: np.ndarray) -> np.ndarray:
        """The logarithm of the probability that all ids of a score are at or below `at`."""
        place = at - int(scores[number] - scores.min())
        values = np.where(place < 0, -np.inf, logs[place.clip(0, len(noise) - 1)])
        return np.where(place >= len(noise) - 1, 0.0, values * counts[number])

    at_most = [below(number, grid) for number in range(len(scores))]
    less = [below(number, grid - 1) for number in range(len(scores))]
    for number in range(len(scores)):
        others = sum(less[:number]) + sum(at_most[number + 1 :])
        found.append(float(((np.exp(at_most[number]) - np.exp(less[number])) * np.exp(others)).sum()))
    return np.array(found)


@pytest.mark.parametrize(("ids", "spreads"), [(32_000, [3.0]), (128_256, [1.0, 8.0])])
def test_the_distance_from_the_softmax_of_a_vocabulary(ids: int, spreads: list[float]) -> None:
    """Exact, for a vocabulary of a few likely ids and many unlikely ones, in groups of equal scores."""
    random = np.random.default_rng(0)
    for spread in spreads:
        scores = np.rint(np.sort(random.normal(0, spread, 24)) * 2.0**FINE).astype(np.int64)
        counts = np.r_[np.diff(np.linspace(0, ids - 8, 17).astype(int)), np.ones(8, int)]
        weights = counts * np.exp((scores - scores.max()) * 2.0**-FINE)
        found = chances(scores, counts)
        assert abs(found.sum() - 1) < 1e-6
        distance = np.abs(found - weights / weights.sum()).sum() / 2
        assert distance < 4e-5
