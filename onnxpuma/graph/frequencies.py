"""Series of frequencies that architectures use: geometric, and the ways to stretch one to longer texts.

Each is closed: two or three round numbers determine all of it. A series that was trained, or found by a
search, is none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

# Relative rounding error of each kind of float.
FLOAT32, FLOAT16, BFLOAT16 = 2.0**-24, 2.0**-11, 2.0**-8
# Tried whatever was measured: half precision is too coarse to measure a base well.
_BASES = (1e2, 1e3, 1e4, 4e4, 5e4, 1e5, 1.5e5, 1.6e5, 5e5, 6e5, 1e6, 2e6, 5e6, 8e6, 1e7, 1e9)
_LINEAR = (1, 2, 3, 4, 6, 8, 10, 12, 16, 32, 64)
# Llama 3: the factor; 1 and 4 turns within the length that it was trained with.
_LLAMA3 = [(factor, length) for factor in (2, 4, 8, 16, 32) for length in (4096, 8192, 16384)]
_YARN = [(f, n) for f in (2, 4, 8, 16, 32, 40, 64) for n in (2048, 4096, 8192, 16384, 32768, 65536, 131072)]
_TURNS_LOW, _TURNS_HIGH = 1.0, 4.0
_YARN_FAST, _YARN_SLOW = 32.0, 1.0
_MOST_HEADS = 256


def series(count: int, first: float, second: float) -> Iterator[np.ndarray]:
    """Closed series of `count` frequencies (float64) that may begin with these two, in no order.

    With s = 1 or an integer that stretches all: base^(-k / count) / s [RoPE 3.2.2], base^(-k / (count - 1)) /
    s, and of the former with s = 1 those of Llama 3 and YaRN [YaRN]. The base is the measured one, to
    three digits, or a usual one.
    """
    if not (0 < second < first <= 1.01):
        return
    k = np.arange(count)
    stretch = min(_LINEAR, key=lambda s: abs(s * first - 1))
    if abs(stretch * first - 1) > 1e-2:
        return
    for steps in (count, count - 1):
        if steps < 1:
            continue
        measured = (first / second) ** steps
        for base in {_rounded(measured), *_BASES}:
            if not 1 < base < 1e12 or abs(math.log(base / measured)) > 0.1 + 0.02 * steps:
                continue
            plain = base ** (-k / steps)
            yield plain / stretch
            if steps == count and stretch == 1:
                yield from (_llama3(plain, *how) for how in _LLAMA3)
                yield from (_yarn(plain, base, *how) for how in _YARN)


def _rounded(number: float) -> float:
    """To three significant digits."""
    if not 1e-3 < number < 1e15:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(number)) - 2)
    return round(number / unit) * unit


def _llama3(plain: np.ndarray, factor: float, length: int) -> np.ndarray:
    turns = length * plain / (2 * math.pi)
    smooth = np.clip((turns - _TURNS_LOW) / (_TURNS_HIGH - _TURNS_LOW), 0, 1)
    return (1 - smooth) * plain / factor + smooth * plain


def _yarn(plain: np.ndarray, base: float, factor: float, length: int) -> np.ndarray:
    width = 2 * plain.size

    def dimension(turns: float) -> float:
        return width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(_YARN_FAST)), 0)
    high = min(math.ceil(dimension(_YARN_SLOW)), width - 1)
    ramp = np.clip((np.arange(plain.size) - low) / max(high - low, 1e-3), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp)


def rounding(frequencies: np.ndarray) -> np.ndarray:
    """Relative error that a float32 computation of these may have: it rounds the exponent first."""
    return (np.abs(np.log(frequencies)) + 6) * FLOAT32 * 1.5


def floor_of(spacing: float) -> float:
    """The absolute error of rounding the smallest numbers: float16's denormal spacing, zero for others."""
    return 2.0**-25 if spacing == FLOAT16 else 1e-12


def are_known(values: np.ndarray, spacing: float) -> bool:
    """Whether a vector of positive numbers is one of these series, to the precision of its kind of float.

    spacing: the relative rounding error of its kind. A geometric series of eight or more numbers counts even
    without a round base, as some ways to stretch yield it: two numbers determine it.
    """
    x = values.astype(np.float64)
    if x.size < 2 or not np.all(np.isfinite(x)) or not np.all(x > 0):
        return False
    for known in series(x.size, float(x[0]), float(x[1])):
        if np.all(np.abs(x - known) <= known * (rounding(known) + spacing) + floor_of(spacing)):
            return True
    if x.size < 8 or spacing > 4 * FLOAT32 or abs(x[0] - 1) > 4 * FLOAT32 or x[-1] >= x[0]:
        return False
    geometric = (x[-1] / x[0]) ** (np.arange(x.size) / (x.size - 1))
    return bool(np.all(np.abs(x - geometric) <= geometric * 2 * rounding(geometric)))


def are_slopes(values: np.ndarray, spacing: float) -> bool:
    """Whether these are the slopes of ALiBi [ALiBi 3].

    2^(-8 i / n) for n heads, n a power of two; for other numbers of heads the slopes of the power below, then
    every second slope of the power above.
    """
    count = values.size
    if not 4 <= count <= _MOST_HEADS:
        return False
    below = 1 << (count.bit_length() - 1)
    finer = 2.0 ** (-4 / below * np.arange(1, 2 * below + 1))
    slopes = np.concatenate([finer[1::2], finer[0::2]])[:count]
    return bool(np.all(np.abs(values - slopes) <= 2 * spacing * slopes))
