"""The privacy loss of noise that three servers draw, of which one may be corrupt and tell its own.

A server that colludes with a client subtracts its own noise. What protects an answer is the noise of the two
others:

gaussian   the sum of two discrete Gaussians is nearly one of variance 2 sigma^2 [KLS21]: for integer vectors
           at a distance D in `size` dimensions the answer has zero-concentrated differential privacy with
           rho = (D / (sqrt(2) sigma) + tau sqrt(size))^2 / 2, where tau = 10 exp(-pi^2 sigma^2)
laplace    the noise of one honest server alone counts, as the rest is added afterwards: epsilon = D / b for
           a distance D in the sum of magnitudes

Losses of several answers add up, rho as well as epsilon. rho becomes (epsilon, delta) by OpenDP [CKS20].
"""

from __future__ import annotations

import math

from onnxpuma.errors import ConfigError
from onnxpuma.mpc.noise import GAUSSIAN, measurement, opendp

LEAST_SCALE = 16  # tau is below 10^-1000
LARGEST_SCALE = 1 << 48  # noise beyond this would wrap in a word of 64 bits
_ROUNDING = 1 + 2.0**-40


def length(kind: str, size: int) -> float:
    """The distance of two vectors of `size` elements that differ by one in each."""
    return math.sqrt(size) if kind == GAUSSIAN else float(size)


def loss(kind: str, scale: int, distance: int, size: int) -> float:
    """The loss of one answer: rho of Gaussian noise, epsilon of Laplace noise. distance: in units of the
    grid; the scale as well."""
    if kind != GAUSSIAN:
        return distance / scale * _ROUNDING
    tau = 10 * math.exp(-((math.pi * scale) ** 2))
    return (distance / (math.sqrt(2) * scale) + tau * math.sqrt(size)) ** 2 / 2 * _ROUNDING


def scale_for(kind: str, allowed: float, distance: int, size: int) -> int:
    """The least scale whose loss is at most `allowed`. ConfigError where that is more noise than fits."""
    first = distance / (2 * math.sqrt(allowed)) if kind == GAUSSIAN else distance / allowed
    if first > LARGEST_SCALE:
        raise ConfigError(
            f"so little loss takes noise of scale {first:.3g} units, more than a word holds",
            "allow a larger loss, or clip the scores to a smaller range",
        )
    scale = max(LEAST_SCALE, math.floor(first))
    while loss(kind, scale, distance, size) > allowed:
        scale += max(1, scale >> 40)
    return scale


def epsilon_of(rho: float, delta: float) -> float:
    """The least epsilon that OpenDP proves for `rho` at `delta`."""
    combinators = opendp("combinators")
    mechanism = measurement(GAUSSIAN, math.sqrt(1 / (2 * rho)))  # of this rho at a distance of one
    return float(combinators.make_zCDP_to_approxDP(mechanism).map(1).epsilon(delta=delta))


def rho_of(epsilon: float, delta: float) -> float:
    """The largest rho, to one part in 10^6, whose epsilon at `delta` is at most `epsilon`."""
    low, high = 0.0, epsilon
    while epsilon_of(high, delta) <= epsilon:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low
