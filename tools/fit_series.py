"""Fit the Fourier series of docs/protocols.md, "Activations", and write them to
onnxpuma/mpc/protocols/series.json.

The twins multiply random words by values made from these coefficients, so both must use the very same
integers: the coefficients are therefore a file, not a computation. Run: python tools/fit_series.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "onnxpuma" / "mpc" / "protocols" / "series.json"

Function: TypeAlias = Callable[[np.ndarray], np.ndarray]

erf = np.vectorize(math.erf)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


@dataclass(frozen=True)
class Activation:
    """A fit: function(x) - linear x on |x| < window; and the lines beyond the window.

    The edges blur by one unit, so the series holds as far as the window's outer edge, and the lines must be
    good enough from its inner edge on. The harmonics are odd ones: with a period of about four windows they
    continue the function as a triangle or a square wave, and half of them are not needed.
    """

    function: Function
    window: float
    harmonics: int
    period: int  # a power of two, over
    speed: tuple[int, int]  # an odd number and a power of two
    parity: str  # cosines for an even remainder, sines for an odd one
    unit: float  # of the coarse reading
    width: int  # of the window, in units
    lines: tuple[float, float, float]  # left constant, right slope, right constant
    linear: float = 0.0
    angle_bits: int = 16
    precision: int = 13
    read: int = 14  # fraction bits of x

    @property
    def orders(self) -> list[int]:
        return [2 * i + 1 for i in range(self.harmonics)]


RAMP, STEP, ODD_STEP = (0, 1, 0), (0, 0, 1), (-1, 0, 1)

ACTIVATIONS = {
    "gelu": Activation(gelu, 4.26, 5, 16, (1, 1), "even", 0.5, 16, RAMP, 0.5, 17, 13, 13),
    "gelu_tanh": Activation(gelu_tanh, 4.26, 5, 16, (1, 1), "even", 0.5, 16, RAMP, 0.5, 17, 13, 13),
    "erf": Activation(erf, 3.6, 5, 16, (5, 4), "odd", 0.5, 13, ODD_STEP),
    "tanh": Activation(np.tanh, 5.1, 9, 16, (13, 16), "odd", 1.0, 9, ODD_STEP),
    "sigmoid": Activation(sigmoid, 8.6, 7, 32, (15, 16), "odd", 1.0, 16, STEP),
    # The error of silu is multiplied by the other half of a gated layer, so its fit is more precise.
    "silu": Activation(
        lambda x: x * sigmoid(x), 10.27, 10, 32, (13, 16), "even", 0.25, 81, RAMP, 0.5, 17, 15
    ),
    "mish": Activation(lambda x: x * np.tanh(softplus(x)), 12.1, 12, 32, (3, 4), "both", 2.0, 11, RAMP, 0.5),
    "softplus": Activation(softplus, 12.1, 7, 32, (13, 16), "even", 2.0, 11, RAMP, 0.5),
}


@dataclass(frozen=True)
class Normalised:
    """A fit on a window inside one period of 4, with the smallest relative error (of log: absolute)."""

    function: Function
    harmonics: int
    ridge: float = 1e-5
    low: float = 0.249
    high: float = 2.0


# More harmonics or a smaller ridge fit better, but are dealt with more bits.
NORMALISED = {
    "reciprocal": Normalised(lambda x: 1 / x, 16),
    "rsqrt": Normalised(lambda x: 1 / np.sqrt(x), 14),
    "log": Normalised(np.log, 14),
    "sqrt": Normalised(np.sqrt, 14),
}


def fit(
    function: Function,
    low: float,
    high: float,
    period: float,
    orders: list[int],
    parity: str,
    ridge: float,
    relative: bool = False,
) -> tuple[np.ndarray, float]:
    """Coefficients [c_0, then c_m, s_m for each order] of a near-minimax fit, and its largest error.

    Iteratively reweighted least squares on Chebyshev nodes. The ridge keeps the coefficients small: a
    large coefficient would magnify the rounding of the cosines.
    """
    nodes = np.cos(np.pi * (np.arange(6000) + 0.5) / 6000)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    columns = [np.ones_like(x)]
    for m in orders:
        columns += [np.cos(2 * np.pi * m * x / period), np.sin(2 * np.pi * m * x / period)]
    used = np.ones(len(columns), bool)
    if parity == "from zero":  # the constant makes it zero at zero
        columns[1::2] = [column - 1 for column in columns[1::2]]
        used[0] = False
    if parity == "even":
        used[2::2] = False
    elif parity == "odd":  # about the constant
        used[1::2] = False
    matrix, target = np.stack(columns, axis=1)[:, used], function(x)
    if relative:
        matrix, target = matrix / target[:, None], np.ones_like(x)
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
    full = np.zeros(len(columns))
    full[used] = best[0]
    if parity == "from zero":
        full[0] = -full[1::2].sum()
    return full, best[1]


def main() -> None:
    result: dict[str, object] = {}
    for name, a in ACTIVATIONS.items():
        period = a.period * a.speed[1] / a.speed[0]
        rest = partial(without_line, a.function, a.linear)
        coefficients, error = fit(rest, -a.window, a.window, period, a.orders, a.parity, 1e-2)
        least, most = ends(rest, a.window)
        result[name] = {
            "period": a.period,
            "speed": a.speed,
            "angle_bits": a.angle_bits,
            "precision": a.precision,
            "orders": a.orders,
            "read": a.read,
            "linear": a.linear,
            "unit": a.unit,
            "width": a.width,
            "left": a.lines[0],
            "slope": a.lines[1],
            "right": a.lines[2],
            "least": least,
            "most": most,
            "error": float(f"{error:.2e}"),
            "coefficients": [round(float(c), 9) for c in coefficients],
        }
        report(name, coefficients, error)
    for name, n in NORMALISED.items():
        orders, parity = list(range(1, n.harmonics + 1)), "from zero" if name == "sqrt" else "both"
        coefficients, error = fit(n.function, n.low, n.high, 4, orders, parity, n.ridge, name != "log")
        result[name] = {
            "period": 4,
            "error": float(f"{error:.2e}"),
            "coefficients": [round(float(c), 12) for c in coefficients],
        }
        report(name, coefficients, error)
    TARGET.write_text(json.dumps(result, indent=1) + "\n")


def ends(function: Function, window: float) -> tuple[float, float]:
    """Multiples of 2^-10 between which the function lies on the window."""
    values = function(np.linspace(-window, window, 20001)) * 1024
    return math.floor(values.min()) / 1024, math.ceil(values.max()) / 1024


def without_line(function: Function, slope: float, x: np.ndarray) -> np.ndarray:
    return np.asarray(function(x) - slope * x)


def report(name: str, coefficients: np.ndarray, error: float) -> None:
    count, largest = len(coefficients) // 2, np.abs(coefficients).max()
    print(f"{name:12s} harmonics {count:3d}  max error {error:.2e}  largest coefficient {largest:.2f}")


if __name__ == "__main__":
    main()
