"""Public numbers of which fixed point leaves few digits, in the values that took them in.

A number of 1e-6 is a quarter of a unit. Sums and choices put it into words, where it becomes zero or a unit.
Most readers cannot tell. A root, a logarithm and a comparison with zero can: they are right where a value is
so large that the number does not count, and the range check asks for that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.registry import FRACTION, Call, Operand, Operator

ENOUGH = 2.0**-13  # a number from here on has five bits
_PART = 64  # the part of a number that its rounding may take
_UNSEEN_ROOT = 2.0**-38  # its root is half a unit
_TAKES = (
    *("Add", "Sub", "Sum", "Max", "Min", "Clip", "Where", "Concat", "Pad", "ScatterND", "ScatterElements"),
)
_CARRIES = (
    *("Neg", "Abs", "Relu", "Mul", "Div", "Cast", "CastLike", "CumSum", "Gather", "TopK", "MaxPool"),
    *("ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "AveragePool", "GlobalAveragePool"),
    "GlobalMaxPool",
)
_ROOTS = ("Sqrt", "Pow", "Log")
_STEPS = ("Ceil", "Floor", "Sign", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def faint_in(call: Call, operator: Operator) -> float:
    """The largest such number in the outputs of a call; 0 where there is none."""
    if not (operator.layout or call.node.op in _TAKES or call.node.op in _CARRIES):
        return 0.0
    found = [o.faint for o in call.secrets]
    if call.node.op in _TAKES:
        found += [_lost(o.value, FRACTION) for o in call.inputs if o is not None and o.value is not None]
    return max(found, default=0.0)


def _lost(values: np.ndarray, fraction: int) -> float:
    """The largest of the numbers that lose more than a part in 64."""
    if values.dtype.kind != "f":
        return 0.0
    small = np.abs(values[(np.abs(values) < ENOUGH) & (values != 0)]).astype(np.float64)
    units = small * 2.0**fraction
    return float(small[np.abs(np.rint(units) - units) * _PART > units].max(initial=0.0))


def needs_beside_faint(call: Call) -> Sequence[Need]:
    """What a reader asks of a value that took in such a number."""
    op, found = call.node.op, []
    if call.node.domain or op not in (*_ROOTS, *_STEPS):
        return ()
    for place, operand in enumerate(call.inputs):
        if operand is None or not operand.secret or not _lost(np.array([operand.faint]), operand.fraction):
            continue
        if op in _STEPS and _far(call.operand(1 - place)):
            continue
        if (op == "Sqrt" and operand.faint < _UNSEEN_ROOT) or (op == "Pow" and (place or _whole(call))):
            continue
        found.append(Need(place, "positive" if op in _ROOTS else "nonzero", ENOUGH))
    return found


def _far(other: Operand | None) -> bool:
    """Whether what a value is compared with is a public number away from zero."""
    values = None if other is None else other.value
    return values is not None and bool((np.abs(values.astype(np.float64)) >= 2 * ENOUGH).all())


def _whole(call: Call) -> bool:
    """Whether the exponent is whole: a product has no use for digits below a unit."""
    exponent = call.public(1)
    return exponent is not None and bool((exponent >= 0).all() and (exponent == np.rint(exponent)).all())
