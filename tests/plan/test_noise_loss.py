"""The privacy loss of noise, against OpenDP and against divergences computed from exact distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.mpc.noise import GAUSSIAN, LAPLACE, measurement
from onnxpuma.plan.noise.loss import LEAST_SCALE, epsilon_of, length, loss, rho_of, scale_for


@pytest.mark.parametrize(("scale", "distance"), [(20, 3), (1000, 1000), (5_000_000, 262_144)])
def test_rho_is_that_of_one_gaussian_of_twice_the_variance(scale: int, distance: int) -> None:
    alone = measurement(GAUSSIAN, math.sqrt(2) * scale).map(distance)
    found = loss(GAUSSIAN, scale, distance, 10)
    assert alone <= found * (1 + 1e-9)
    assert found == pytest.approx(alone, rel=1e-9)
    # One honest server would have to draw twice the variance for the same promise.
    assert measurement(GAUSSIAN, float(scale)).map(distance) == pytest.approx(2 * found, rel=1e-9)


@pytest.mark.parametrize(("scale", "distance"), [(20, 3), (1000, 1000), (5_000_000, 262_144)])
def test_epsilon_is_that_of_one_servers_laplace_noise(scale: int, distance: int) -> None:
    alone = measurement(LAPLACE, float(scale)).map(distance)
    assert loss(LAPLACE, scale, distance, 10) == pytest.approx(alone, rel=1e-9)


def of_two(kind: str, scale: int) -> np.ndarray:
    """The distribution of two servers' noise; the tails end where doubles do."""
    at = np.arange(-30 * scale, 30 * scale + 1, dtype=np.float64)
    weights = np.exp(-(at**2) / (2 * scale**2)) if kind == GAUSSIAN else np.exp(-np.abs(at) / scale)
    return np.convolve(weights / weights.sum(), weights / weights.sum())


@pytest.mark.parametrize("distance", [1, 3, 16, 40])
@pytest.mark.parametrize("order", [1.5, 2.0, 4.0, 16.0])
def test_the_sum_of_two_gaussians_diverges_no_further_than_rho(distance: int, order: float) -> None:
    p = of_two(GAUSSIAN, LEAST_SCALE)
    apart = order * loss(GAUSSIAN, LEAST_SCALE, distance, 1)
    kept = (p[distance:] > 0) & (p[:-distance] > 0)
    x, y = np.log(p[distance:][kept]), np.log(p[:-distance][kept])
    divergence = np.logaddexp.reduce(order * x + (1 - order) * y) / (order - 1)
    assert divergence <= apart + 1e-9
    assert divergence > 0.98 * apart  # and the bound is tight


def test_two_laplace_noises_protect_at_least_as_one() -> None:
    scale, distance = 20, 7
    p = of_two(LAPLACE, scale)[35 * scale : -35 * scale]  # beyond, the ends of both tables show
    ratios = np.abs(np.log(p[distance:]) - np.log(p[:-distance]))
    assert ratios.max() <= loss(LAPLACE, scale, distance, 1)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-6), (1.0, 1e-5), (8.0, 1e-6), (60.0, 1e-9)])
def test_rho_and_epsilon_are_inverse(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon
    assert epsilon_of(rho * 1.001, delta) > epsilon
    usual = rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun and Steinke's conversion, which is looser
    assert epsilon <= usual


def test_losses_add_up_before_they_become_epsilon() -> None:
    assert epsilon_of(100 * 0.01, 1e-6) < 100 * epsilon_of(0.01, 1e-6)


@pytest.mark.parametrize("kind", [GAUSSIAN, LAPLACE])
@pytest.mark.parametrize("allowed", [1e-6, 0.01, 1.0, 500.0])
def test_the_least_scale_that_allows_the_loss(kind: str, allowed: float) -> None:
    scale = scale_for(kind, allowed, 262_144, 10)
    assert loss(kind, scale, 262_144, 10) <= allowed
    assert scale == LEAST_SCALE or loss(kind, scale - 1, 262_144, 10) > allowed * (1 - 1e-11)


def test_noise_that_no_word_holds_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than a word holds"):
        scale_for(GAUSSIAN, 1e-12, 1 << 40, 10)


def test_lengths() -> None:
    assert length(GAUSSIAN, 16) == 4.0
    assert length(LAPLACE, 16) == 16.0
