"""PUMA's functions [PUMA]. `xp` is the array library: numpy, or jax.numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# GELU is 0 below the first place, the cubic below the second, the polynomial of degree six up to the third,
# and x above it [PUMA]. Coefficients begin with the constant.
PLACES = (-4.0, -1.95, 3.0)
CUBIC = (-0.5054031199708174, -0.42226581151983866, -0.11807612951181953, -0.011034134030615728)
SIXTH = (
    0.008526321541038084,
    0.5,
    0.3603292692789629,
    0.0,
    -0.037688200365904236,
    0.0,
    0.0018067462606141187,
)
# For softmax, exp(x) is (1 + x / 2^t)^(2^t), by t squarings, and 0 from the least argument down [PUMA].
SQUARINGS = 5
LEAST = -14.0


def gelu(x: Any, xp: Any) -> Any:
    """GELU in four pieces; the largest error is 0.020, at 3."""
    zero, below, above = x < PLACES[0], x < PLACES[1], x > PLACES[2]
    middle = below ^ above ^ True
    square = xp.square(x)
    third = x * square
    cubic = CUBIC[3] * third + CUBIC[2] * square + CUBIC[1] * x + CUBIC[0]
    sixth = SIXTH[6] * xp.square(third) + SIXTH[4] * xp.square(square) + SIXTH[2] * square
    sixth = sixth + SIXTH[1] * x + SIXTH[0]
    return above * x + (zero ^ below) * cubic + middle * sixth


def exp(x: Any) -> Any:
    """exp for -2^SQUARINGS < x <= 0; the largest error is 0.0085, at -2."""
    base = 1 + x / 2**SQUARINGS
    for _ in range(SQUARINGS):
        base = base * base
    return base


def softmax(x: Any, xp: Any, power: Callable[[Any], Any]) -> Any:
    """Softmax of the last axis with `power` for exp."""
    apart = x - xp.max(x, axis=-1, keepdims=True)
    weights = power(apart) * (apart > LEAST)
    return weights / xp.sum(weights, axis=-1, keepdims=True)
