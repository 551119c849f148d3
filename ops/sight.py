"""The bound of an operand as its reader sees it: proved for a secret one, measured for a public one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.beside import held, in_words
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.standard.mask_values import FAR

Bounding = Callable[[Call], Bound]

_FINE = 20  # significant bits of the numbers of a public array when its lengths are measured


def of_values(values: np.ndarray) -> Bound:
    """The bound of a public array; lengths are sums of integers, which every machine adds up alike."""
    if values.dtype.kind not in "fiub" or not values.size:
        return Bound(0.0, 0.0) if values.dtype.kind in "fiub" else UNKNOWN
    real = held(values) if values.dtype.kind == "f" else values.astype(np.float64)
    low, high = float(real.min()), float(real.max())
    return Bound(low, high, measured(real, (-1,) if real.ndim else ()))


def measured(values: np.ndarray, axes: tuple[int, ...], power: int = 2) -> float:
    """The length of the longest row over `axes`; power=1: the largest sum of magnitudes of a row."""
    size = float(np.abs(values).max(initial=0.0))
    if size == 0.0:
        return 0.0
    unit = 2.0 ** (math.frexp(size)[1] - _FINE)
    whole = np.ceil(np.abs(values) / unit).astype(np.int64)
    most = float((whole**power).sum(axis=axes).max())
    return (most if power == 1 else math.sqrt(most)) * unit * (1 + 2.0**-40)


def words(operand: Operand | None) -> Bound:
    """The bound of the words of a value, without the public numbers beside them."""
    if operand is None:
        return Bound(0.0, 0.0)
    return operand.bound if operand.secret else of_values(np.asarray(in_words(operand.value)))


def seen(operand: Operand | None) -> Bound:
    """The bound of a value as most operators read it, with the numbers beside it that are in reach."""
    if operand is None:
        return Bound(0.0, 0.0)
    if operand.value is not None:
        return of_values(operand.value)
    if operand.beside is None:
        return operand.bound
    near = held(operand.beside)
    near = near[np.abs(near) < FAR]
    low, high = float(near.min(initial=0.0)), float(near.max(initial=0.0))
    return Bound(operand.bound.low + low, operand.bound.high + high)


def last(operand: Operand) -> int:
    """The number of elements of a row."""
    return operand.shape[-1] if operand.shape else 1


def counted(operand: Operand | None) -> Bound:
    """The bound as limits count it: an integer is a whole word and has 18 bits more room."""
    found = seen(operand)
    return found if operand is None or operand.dtype.kind == "f" else found.times(RESTING.unit)


def near_numbers(operand: Operand | None) -> bool:
    """Whether a value includes, or has beside it, public numbers that are neither zero nor out of reach."""
    values = None if operand is None else operand.beside if operand.secret else operand.value
    if values is None or values.dtype.kind != "f":
        return False
    return bool(((values != 0) & (np.abs(values) < FAR)).any())
