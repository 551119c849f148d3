"""Noise whose parts add up to Gumbel variables, and draws where a part is missing or is drawn twice."""

from __future__ import annotations

import math

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
