"""Noise that one party draws for itself: discrete Gaussian or discrete Laplace, exactly, by OpenDP.

The numbers are integers, in units of a value's grid, and come from the operating system's randomness: no
other party holds anything from which they follow. OpenDP draws without floating point [CKS20].
"""

from __future__ import annotations

import math
from typing import Any

from onnxpuma.errors import BuildError
from onnxpuma.mpc.ring.words import Words, from_integers

GAUSSIAN, LAPLACE = "gaussian", "laplace"
KINDS = (GAUSSIAN, LAPLACE)


def opendp(module: str) -> Any:
    """A module of OpenDP. BuildError where it is not installed."""
    try:
        from importlib import import_module

        import_module("opendp.mod").enable_features("contrib")
        return import_module(f"opendp.{module}")
    except ImportError as error:
        raise BuildError(
            f"a model with noise on its outputs needs OpenDP, which is missing: {error}",
            "install it: pip install 'onnxpuma[privacy]'",
        ) from error


def measurement(kind: str, scale: float) -> Any:
    """OpenDP's mechanism that adds noise of this kind to a vector of integers: its sensitivities are of the
    Euclidean length for a Gaussian, and of the sum of magnitudes for Laplace."""
    domains, metrics, measurements = opendp("domains"), opendp("metrics"), opendp("measurements")
    space = domains.vector_domain(domains.atom_domain(T="i64"))
    if kind == GAUSSIAN:
        return measurements.make_gaussian(space, metrics.l2_distance(T="i64"), scale=scale)
    return measurements.make_laplace(space, metrics.l1_distance(T="i64"), scale=scale)


def drawn(kind: str, scale: int, shape: tuple[int, ...], bits: int) -> Words:
    """Fresh independent noise as words of Z_2^bits.

    scale: sigma of the Gaussian, exp(-n^2 / 2 sigma^2), or b of Laplace, exp(-|n| / b). Cost: about 0.05 ms
    an element. Raises BuildError where OpenDP is missing.
    """
    numbers = measurement(kind, float(scale))([0] * math.prod(shape))
    return from_integers(numbers, bits).reshape(shape)
