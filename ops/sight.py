"""What the reader of an operand knows of its values: by its bound, what stands beside it, or its numbers."""

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

_FINE = 20  # bits to which numbers of a public array count for its lengths


def of_values(values: np.ndarray) -> Bound:
    """Of a public array; lengths are counted in whole numbers, which every machine adds up alike."""
    if values.dtype.kind not in "fiub" or not values.size:
        return Bound(0.0, 0.0) if values.dtype.kind in "fiub" else UNKNOWN
    real = held(values) if values.dtype.kind == "f" else values.astype(np.float64)
    low, high = float(real.min()), float(real.max())
    return Bound(low, high, measured(real, (-1,) if real.ndim else ()))


def measured(values: np.ndarray, axes: tuple[int, ...], power: int = 2) -> float:
    """The longest of the rows over `axes`; power=1: the largest sum of their magnitudes."""
    size = float(np.abs(values).max(initial=0.0))
    if size == 0.0:
        return 0.0
    unit = 2.0 ** (math.frexp(size)[1] - _FINE)
    whole = np.ceil(np.abs(values) / unit).astype(np.int64)
    most = float((whole**power).sum(axis=axes).max())
    return (most if power == 1 else math.sqrt(most)) * unit * (1 + 2.0**-40)


def words(operand: Operand | None) -> Bound:
    """Of what the words of a value hold, without the public numbers beside them."""
    if operand is None:
        return Bound(0.0, 0.0)
    return operand.bound if operand.secret else of_values(np.asarray(in_words(operand.value)))


def seen(operand: Operand | None) -> Bound:
    """Of a value as most readers have it, with what stands beside it and is not out of reach."""
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
    """How many elements a row of a value has."""
    return operand.shape[-1] if operand.shape else 1


def counted(operand: Operand | None) -> Bound:
    """As limits count it: integers are whole words, which leaves them 18 bits more."""
    found = seen(operand)
    return found if operand is None or operand.dtype.kind == "f" else found.times(RESTING.unit)


def near_numbers(operand: Operand | None) -> bool:
    """Whether public numbers are added to a value, or stand in it, that are neither zero nor out of reach."""
    values = None if operand is None else operand.beside if operand.secret else operand.value
    if values is None or values.dtype.kind != "f":
        return False
    return bool(((values != 0) & (np.abs(values) < FAR)).any())
