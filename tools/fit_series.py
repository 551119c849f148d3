"""Fit the Fourier series of protocols.md, section 6, and write them to onnxpuma/mpc/series.json.

The twins multiply random words by values made from these coefficients, so both must use the very same
integers: the coefficients are therefore a file, not a computation. Run: python tools/fit_series.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "onnxpuma" / "mpc" / "series.json"

erf = np.vectorize(math.erf)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


# name: function, window, period (a power of two), harmonics, edge unit, width of the window in units,
# tails: left constant, right slope, right constant. The edges blur by one unit, so the series holds as far
# as the window's outer edge, and the tails must be good enough from its inner edge on.
ACTIVATIONS: dict[
    str, tuple[Callable[[np.ndarray], np.ndarray], float, int, int, float, int, tuple[float, float, float]]
] = {
    "gelu": (gelu, 4.35, 16, 7, 0.5, 16, (0, 1, 0)),
    "gelu_tanh": (gelu_tanh, 4.35, 16, 7, 0.5, 16, (0, 1, 0)),
    "erf": (erf, 3.6, 16, 10, 0.5, 13, (-1, 0, 1)),
    "tanh": (np.tanh, 5.1, 16, 13, 1.0, 9, (-1, 0, 1)),
    "sigmoid": (sigmoid, 8.6, 32, 12, 1.0, 16, (0, 0, 1)),
    "silu": (lambda x: x * sigmoid(x), 12.1, 32, 14, 2.0, 11, (0, 1, 0)),
    "mish": (lambda x: x * np.tanh(softplus(x)), 12.1, 32, 16, 2.0, 11, (0, 1, 0)),
    "softplus": (softplus, 12.1, 32, 14, 2.0, 11, (0, 1, 0)),
}

# name: function on [low, high) inside one period of 4
NORMALISED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, float, int]] = {
    "reciprocal": (lambda x: 1 / x, 0.249, 2.0, 24),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 0.249, 2.0, 22),
    "log": (np.log, 0.249, 2.0, 22),
}


def fit(
    function: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
    period: float,
    harmonics: int,
    ridge: float,
) -> tuple[np.ndarray, float]:
    """Coefficients [c_0, c_1, s_1, c_2, s_2, ...] of a near-minimax fit, and its largest error.

    Iteratively reweighted least squares on Chebyshev nodes. The ridge keeps the coefficients small: a
    large coefficient would magnify the rounding of the cosines.
    """
    nodes = np.cos(np.pi * (np.arange(6000) + 0.5) / 6000)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    columns = [np.ones_like(x)]
    for m in range(1, harmonics + 1):
        columns += [np.cos(2 * np.pi * m * x / period), np.sin(2 * np.pi * m * x / period)]
    matrix, target = np.stack(columns, axis=1), function(x)
    weight = np.ones_like(x)
    best: tuple[np.ndarray, float] = (np.zeros(matrix.shape[1]), math.inf)
    for _ in range(60):
        left = np.concatenate([matrix * weight[:, None], ridge * np.eye(matrix.shape[1])])
        right = np.concatenate([target * weight, np.zeros(matrix.shape[1])])
        coefficients = np.linalg.lstsq(left, right, rcond=None)[0]
        error = np.abs(matrix @ coefficients - target)
        if error.max() < best[1]:
            best = coefficients, float(error.max())
        weight *= 1 + error / error.max()
        weight /= weight.mean()
    return best


def report(name: str, harmonics: int, error: float, coefficients: np.ndarray) -> None:
    """One line of what was fitted."""
    largest = np.abs(coefficients).max()
    print(f"{name:12s} harmonics {harmonics:3d}  max error {error:.2e}  largest coefficient {largest:.2f}")


def main() -> None:
    result: dict[str, object] = {}
    for name, (function, window, period, harmonics, unit, width, tails) in ACTIVATIONS.items():
        coefficients, error = fit(function, -window, window, period, harmonics, 1e-2)
        result[name] = {
            "period": period,
            "unit": unit,
            "width": width,
            "left": tails[0],
            "slope": tails[1],
            "right": tails[2],
            "error": float(f"{error:.2e}"),
            "coefficients": [round(float(c), 9) for c in coefficients],
        }
        report(name, harmonics, error, coefficients)
    for name, (function, low, high, harmonics) in NORMALISED.items():
        coefficients, error = fit(function, low, high, 4, harmonics, 1e-6)
        result[name] = {
            "period": 4,
            "error": float(f"{error:.2e}"),
            "coefficients": [round(float(c), 12) for c in coefficients],
        }
        report(name, harmonics, error, coefficients)
    TARGET.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
