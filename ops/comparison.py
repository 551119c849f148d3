"""The bits that a comparison reads of its operands, and how far out they may lie."""

from __future__ import annotations

import math
from typing import TypeVar, overload

import numpy as np

from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form
from onnxpuma.ops.limits import Limit, inputs_below
from onnxpuma.ops.registry import Call

F = TypeVar("F", bound=Form)
WIDE = RESTING.bits  # bits of an exact comparison of any two values
FURTHEST = RESTING.largest / 2  # no value is larger; a public bound further out moves here


def width(call: Call) -> int:
    """Bits of an exact comparison of a call's operands: all bits, unless they are proved to be small."""
    largest = 0.0
    for operand in call.inputs:
        if operand is not None and operand.secret:
            masked = operand.beside is not None or operand.reach or operand.dtype.kind != "f"
            largest = max(largest, math.inf if masked else operand.bound.size)
        elif operand is not None and operand.value is not None and operand.value.dtype.kind in "fiu":
            largest = max(largest, float(np.abs(bounded(operand.value)).max(initial=0.0)))
    return bits_for(largest, max(o.resting.fraction for o in call.secrets))


def compared(call: Call) -> tuple[Limit, ...]:
    """The limits of a comparison of a call's operands: the range that it reads."""
    bits = width(call) if call.inputs else WIDE
    if bits >= WIDE:
        return inputs_below(FURTHEST)(call)
    return inputs_below(2.0 ** (bits - 3 - max(o.resting.fraction for o in call.secrets)))(call)


def bits_for(largest: float, fraction: int = RESTING.fraction) -> int:
    """Bits of the difference of two values of at most this size, with room for the lift and for errors."""
    if largest >= FURTHEST:
        return WIDE
    return min(WIDE, fraction + 2 + math.ceil(math.log2(2.02 * largest + 2.0**-8)))


@overload
def bounded(value: np.ndarray) -> np.ndarray: ...
@overload
def bounded(value: F) -> F: ...
def bounded(value: np.ndarray | F) -> np.ndarray | F:
    """A public bound, moved into the range of comparisons if it is further out; a secret unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    return np.asarray(np.clip(value.astype(np.float64), -FURTHEST, FURTHEST))


def holds_nan(call: Call) -> str | None:
    """Refuse a public input that holds NaN."""
    for operand in call.inputs:
        if operand is not None and operand.value is not None and np.isnan(operand.value).any():
            return f"its public input '{operand.name}' holds NaN"
    return None
