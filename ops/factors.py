"""Public factors: the fraction bits that they need, and products with them."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.forms import Form

F = TypeVar("F", bound=Form)
SIGNIFICANT = 18  # bits of a public factor that fewer bits would not hold exactly


def public_scale(values: npt.ArrayLike) -> tuple[int, np.ndarray]:
    """(fraction bits, integers) of a public factor: the fewest that hold it exactly, else 18 significant.

    A power of two or an integer costs no precision, and perhaps no truncation.
    """
    real = np.asarray(values, np.float64)
    finest = real * 2.0 ** (SIGNIFICANT - 1)
    exact = np.array_equal(finest, np.rint(finest))  # else no fewer bits hold it either
    for fraction in range(SIGNIFICANT if exact else 0):
        scaled = real * 2.0**fraction
        if np.array_equal(scaled, np.rint(scaled)):
            return fraction, scaled.astype(np.int64)
    largest = float(np.abs(real).max())
    fraction = SIGNIFICANT + min(16, max(0, -math.floor(math.log2(largest))))
    return fraction, np.rint(real * 2.0**fraction).astype(np.int64)


def factor_bits(values: npt.ArrayLike) -> int:
    """The fraction bits of a public factor, which its product gains."""
    return public_scale(values)[0]


def times_numbers(x: F, values: npt.ArrayLike) -> F:
    """x times public numbers, which bring the fraction bits that they need (`public_scale`)."""
    fraction, integers = public_scale(values)
    return x.times_integers(integers, fraction)
