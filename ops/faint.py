"""Faint constants: small numbers that keep few digits in fixed point, and the values that contain them.

A number of 1e-6 is a quarter of a unit. Sums and choices put it into words, where it becomes zero or a unit.
Most readers cannot tell the difference. A root, a logarithm and a comparison with zero can: they are right
only where the value is so large that the number is negligible, and the range check requires that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.registry import Call, Operand, Operator
from onnxpuma.standard.fixed_point import FIVE_BITS, LOSS, SEEN_ROOT

_FEW = 2.0**5  # units; a larger number keeps its digits at its scale
_NOTHING = 2.0**-60  # stands for the size of zeros
_TAKES = (
    *("Add", "Sub", "Sum", "Max", "Min", "Clip", "Where", "Concat", "Pad", "ScatterND", "ScatterElements"),
)
_CARRIES = (
    *("Neg", "Abs", "Relu", "Mul", "Div", "Cast", "CastLike", "CumSum", "Gather", "TopK", "MaxPool"),
    *("ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "AveragePool", "GlobalAveragePool"),
    "GlobalMaxPool",
)
_ROOTS = ("Sqrt", "Pow", "Log", "ReduceLogSum")
_CASTS = ("Cast", "CastLike")
_STEPS = (*("Ceil", "Floor", "Sign", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", *_CASTS),)


def faint_in(call: Call, operator: Operator) -> float:
    """The largest faint number in the outputs of a call; 0 where there is none."""
    if not (operator.moves or call.node.op in _TAKES or call.node.op in _CARRIES):
        return 0.0
    found = [o.faint for o in call.secrets]
    if call.node.op in _TAKES:
        found += [_lost(o, call.reals.fraction) for o in call.inputs if o is not None]
    return max(found, default=0.0)


def _lost(operand: Operand, fraction: int) -> float:
    """The largest of the numbers that lose their digits; of a weight only the size is known."""
    values = operand.value
    if values is None:
        # Its owner rounds the size up by a factor of two at most.
        size = operand.bound.size / 2 if operand.weight and not operand.finer else 0.0
        return size if _NOTHING < size < FIVE_BITS else 0.0
    if values.dtype.kind != "f":
        return 0.0
    small = np.abs(values[(np.abs(values) < FIVE_BITS) & (values != 0)]).astype(np.float64)
    units = small * 2.0**fraction
    return float(small[np.abs(np.rint(units) - units) * LOSS > units].max(initial=0.0))


def needs_beside_faint(call: Call) -> Sequence[Need]:
    """The conditions of a reader on a value that contains a faint number."""
    op = call.node.op
    if call.node.domain or op not in (*_ROOTS, *_STEPS):
        return ()
    kind = "positive" if op in _ROOTS else "nonzero"
    asks = _roots if op in _ROOTS else _compares
    places = [
        place for place, o in enumerate(call.inputs) if o is not None and o.secret and asks(call, place)
    ]
    return [Need(place, kind, FIVE_BITS) for place in places]


def _is_faint(operand: Operand) -> bool:
    return 0 < operand.faint * 2.0**operand.fraction < _FEW


def _roots(call: Call, place: int) -> bool:
    operand = call.given(place)
    if not _is_faint(operand) or (call.node.op == "Sqrt" and operand.faint < SEEN_ROOT):
        return False
    return call.node.op != "Pow" or not (place or _whole(call))


def _compares(call: Call, place: int) -> bool:
    """A value that contains a faint number, or is compared with one; a cast to a boolean is a comparison."""
    if call.node.op in _CASTS and (not call.outputs or call.outputs[0].dtype.kind != "b"):
        return False
    other = None if call.node.op in _CASTS else call.operand(1 - place)
    with_weight = other is not None and other.secret and _lost(other, call.reals.fraction) > 0
    return with_weight or (_is_faint(call.given(place)) and not _far(other))


def _far(other: Operand | None) -> bool:
    """Whether the other side of a comparison is a public number away from zero."""
    values = None if other is None else other.value
    return values is not None and bool((np.abs(values.astype(np.float64)) >= 2 * FIVE_BITS).all())


def _whole(call: Call) -> bool:
    """Whether the exponent is whole: a product has no use for digits below a unit."""
    exponent = call.public(1)
    return exponent is not None and bool((exponent >= 0).all() and (exponent == np.rint(exponent)).all())
