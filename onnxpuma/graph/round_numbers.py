"""Which lone numbers are round: written by an architecture, and not left by training.

A trained number cannot be distinguished from a constant by its size. A number is round when it has, to
float32 precision, one of a few forms; fewer than one in a thousand of all floats between 0.01 and 10 do.
"""

from __future__ import annotations

import math

import numpy as np

from onnxpuma.standard.mask_values import LARGEST_FLOATS

LARGEST_INTEGER = 1024
# Roots of these too: the widths of models and heads.
_LARGEST_WIDTH, _WIDTHS = 16384, 64
_ULPS = 2
_EPSILON = 2.0**-24
_MOST = 2.0**127

# Up to a power of two: constants of mathematics, and of activations.
_NAMED = (
    math.pi,
    1 / math.pi,
    math.e,
    math.log(2),
    1 / math.log(2),
    math.log(10),
    1 / math.log(10),
    math.sqrt(2),
    math.sqrt(math.pi),
    1 / math.sqrt(math.pi),
    math.sqrt(2 / math.pi),
    0.044715,
    0.044715 * math.sqrt(2 / math.pi),
    1.702,
    1.6732632423543772,  # Selu
    1.0507009873554805,
    1.6732632423543772 * 1.0507009873554805,
    math.log(3),
    1 / math.log(3),
    255.0,
    1 / 255.0,
    *(0.1 * math.log(stretch) + 1 for stretch in (2, 4, 8, 16, 32, 40, 64)),  # YaRN, in the tables
)
_MANTISSAS = np.array([math.frexp(v)[0] for v in _NAMED])
_HALVED_TENS = tuple(10.0**k for k in range(-12, -2)) + tuple(10.0**k for k in range(4, 38))


def is_round(number: float, coarse: bool = False) -> bool:
    """Whether a number is one that an architecture would contain.

    These are round, with either sign, to two units in the last place of float32: integers up to 1024, powers
    of two and of ten, 1 / n, and the square and fourth roots of n or 1 / n, for n up to 1024 and for
    multiples of 64 up to 16384; named constants times a power of two; infinity, NaN, and the largest numbers
    of each kind of float. coarse: the model's weights are half-precision numbers, of which these forms are
    too large a part. Then a number that half precision can represent is round only as an integer up to 16, as
    a power of two, or as a tiny or huge power of ten.
    """
    if not math.isfinite(number) or number == 0:
        return True
    size = abs(number)
    if size in LARGEST_FLOATS:
        return True
    if coarse and is_half(number):
        return _is_power_of_two(size, exact=True) or size in _SMALL or _is_halved_ten(size)
    if size > _MOST:
        return _is_power_of_ten(size)
    return (
        _is_power_of_two(size)
        or _is_counted(size)
        or _is_counted(1 / size)
        or _is_width(size**2, 2)
        or _is_width(size**-2.0 if size > 1e-150 else 0.0, 2)
        or _is_width(size**4 if size < 1e70 else 0.0, 4)
        or _is_width(size**-4.0 if size > 1e-70 else 0.0, 4)
        or _is_power_of_ten(size)
        or bool(np.any(np.abs(_MANTISSAS - math.frexp(size)[0]) < _tolerance(1.0)))
    )


_SMALL = frozenset(float(n) for n in range(17)) | {100.0, 1000.0}


def is_half(number: float) -> bool:
    """Whether float16 or bfloat16 represents this number exactly."""
    value = np.float32(number)
    with np.errstate(over="ignore"):
        return bool(np.float32(np.float16(value)) == value) or not int(value.view(np.uint32)) & 0xFFFF


def is_root_of(number: float, width: int | None) -> bool:
    """Whether it is 1 / sqrt(width) or the fourth root of 1 / width, as rounded to some kind of float."""
    if not width or number <= 0:
        return False
    return any(
        abs(number - kept) <= _tolerance(kept)
        for power in (-0.5, -0.25)
        for kept in (float(width) ** power, *_in_half(float(width) ** power))
    )


def _in_half(number: float) -> tuple[float, float]:
    """Rounded to float16 and to bfloat16."""
    bits = int(np.float32(number).view(np.uint32))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(np.float16(number)), float(np.uint32(rounded).view(np.float32))


def _tolerance(size: float) -> float:
    return size * _ULPS * 2 * _EPSILON


def _near(size: float, form: float, power: int = 1) -> bool:
    return abs(size - form) <= power * _tolerance(form)


def _is_power_of_two(size: float, exact: bool = False) -> bool:
    mantissa = math.frexp(size)[0]
    if exact:
        return mantissa == 0.5
    return _near(mantissa, 0.5) or _near(mantissa, 1.0)


def _is_power_of_ten(size: float) -> bool:
    return _near(size, 10.0 ** round(math.log10(size)))


def _is_halved_ten(size: float) -> bool:
    """A tiny or huge power of ten, rounded to half precision: an epsilon, or the filler of a mask."""
    return any(abs(size - ten) <= ten * 2.0**-8 for ten in _HALVED_TENS) or _is_half_denormal_ten(size)


def _is_half_denormal_ten(size: float) -> bool:
    with np.errstate(under="ignore"):
        return any(size == float(np.float16(10.0**-k)) for k in range(3, 8))


def _is_counted(size: float) -> bool:
    """An integer up to 1024."""
    whole = round(size) if size < 2 * LARGEST_INTEGER else 0
    return 1 <= whole <= LARGEST_INTEGER and _near(size, whole)


def _is_width(size: float, power: int) -> bool:
    """An integer up to 1024, or a multiple of 64 up to 16384; `size` was raised to this power."""
    if not 1 <= size < 2 * _LARGEST_WIDTH:
        return False
    whole = round(size)
    known = whole <= LARGEST_INTEGER or (whole % _WIDTHS == 0 and whole <= _LARGEST_WIDTH)
    return known and _near(size, whole, power)
