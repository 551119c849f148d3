"""Small numbers in a logarithm are scaled up with the value beside them: log(y + c) = log(k y + k c) - log k.

A product with a power of ten costs nothing, and 1e-8 would be zero in fixed point. The same holds inside a
root, and for a number that keeps a divisor above zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.log_sum import number_like
from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import is_float, made_by, rank, scalar, used_once
from onnxpuma.standard.fixed_point import FIVE_BITS, FRACTION, LOSS, SEEN_ROOT, UNIT

_ENOUGH = 2.0**-12  # a number of at least this keeps its digits
_NEAR = 2.0**-4  # the error of a Relu counts beside a smaller number
_WITHIN = 2.0**-22  # a floor below it lies between zero and the first unit
_UNITS = 16  # units of fixed point that a scaled number should have
_MOST = 1e9  # a larger factor would leave the value no room
_HIGHEST = 2.0**16  # the largest value that is scaled up
_POWERS = tuple(2.0**k for k in range(1, 30))
_PRODUCTS = ("Mul", "MatMul", "Gemm", "ReduceSumSquare", "Einsum")


def _is_square(value: ir.Value | None) -> bool:
    """Whether a value is a square, or a sum of squares."""
    if (node := made_by(value, "Mul")) is not None:
        return node.inputs[0] is node.inputs[1]
    node = made_by(value, "ReduceSum", "ReduceSumSquare")
    return node is not None and (node.op_type == "ReduceSumSquare" or _is_square(node.inputs[0]))


def _fraction(value: ir.Value) -> int:
    """The fraction bits of a value as a logarithm reads it."""
    node = made_by(value, "ReduceSum")
    added = node.inputs[0] if node is not None else value
    return FRACTION if made_by(added, *_PRODUCTS) is None else 2 * FRACTION


def _power(small: float, fraction: int = FRACTION) -> float:
    """The power of ten (of two, if `small` is one) that scales `small` to `_UNITS` units or more, up to
    `_MOST`."""
    wanted = _UNITS / (small * 2.0**fraction)
    base = 2 if math.log2(small).is_integer() else 10
    exponent = max(0, math.ceil(math.log(wanted, base) - 1e-9))
    return float(base ** min(exponent, math.floor(math.log(_MOST, base))))


def _scaled_log(
    op: Any, y: ir.Value, x: Any, small: float, by: float, join: str, positive: bool = False
) -> Any:
    """log(join(x, small)), both scaled up."""
    up = _positive(op, x, y) if positive else x
    if by > 1:
        up = op.Mul(up, number_like(op, y, np.asarray(by)))
    inside = getattr(op, join)(up, number_like(op, y, np.asarray(small * by)))
    return op.Sub(op.Log(inside), number_like(op, y, np.asarray(math.log(by)))) if by > 1 else op.Log(inside)


def _positive(op: Any, x: Any, like: ir.Value) -> Any:
    """max(x, 0), exactly: a Relu's result may be slightly below zero."""
    return op.Max(x, number_like(op, like, np.asarray(0.0)))


class LogOfSmallSum(Rule):
    """Log(y + c) -> Log(k y + k c) - log k"""

    title = "small number in a logarithm"

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Log(op.Add(x, c), _outputs=["y"])

    def check(self, context: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        small = scalar(c)
        if small is None or not 0 < small < _NEAR or not is_float(x) or (rank(c) or 0) > (rank(x) or 0):
            return no("not a small number beside a tensor")
        lost = small < _ENOUGH and _power(small, _fraction(x)) > 1
        return yes() if lost or made_by(x, "Relu") is not None else no("it keeps its digits")

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, y: ir.Value, **_: Any) -> Any:
        small = scalar(c) or 0.0
        by, relu = _power(small, _fraction(x)), made_by(x, "Relu")
        if relu is None:
            return _scaled_log(op, y, x, small, by, "Add")
        return _scaled_log(op, y, relu.inputs[0], small, by, "Add", True)


class LogOfFloor(Rule):
    """Log(max(x, c)) -> Log(max(k x, k c)) - log k, or a sum where c is below the least unit of x"""

    title = "small floor in a logarithm"

    def pattern(self, op: Any, z: Any) -> Any:
        return op.Log(z, _outputs=["y"])

    def check(self, context: Any, z: ir.Value, **_: Any) -> Any:
        node = made_by(z, "Max", "Clip")
        if node is None or not is_float(z):
            return no("not of a floor")
        x, *ends = node.inputs
        if node.op_type == "Max" and len(ends) == 1 and scalar(x) is not None:
            x, ends = ends[0], [x]
        if x is None or len(ends) > 2 or not ends or any(e is not None for e in ends[1:]):
            return no("not of one floor")
        small = scalar(ends[0])
        if small is None or not 0 < small < _ENOUGH or (rank(ends[0]) or 0) > (rank(x) or 0):
            return no("the floor is not a small number")
        relu = made_by(x, "Relu")
        self.x, self.small = (x if relu is None else relu.inputs[0]), small
        return yes()

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        x, small = self.x, self.small
        if small >= _WITHIN:
            return _scaled_log(op, y, x, small, _power(small), "Max")
        if _is_square(x):
            return _scaled_log(op, y, x, small, _power(small, _fraction(x)), "Add")
        return _scaled_log(op, y, x, small, _power(small), "Add", True)


class RootOfRelu(Rule):
    """Sqrt(Relu(x) + c) -> Sqrt(max(x, 0) + c): a root must not see a number below zero"""

    title = "root of a Relu"

    def pattern(self, op: Any, z: Any) -> Any:
        return op.Sqrt(z, _outputs=["y"])

    def check(self, context: Any, z: ir.Value, **_: Any) -> Any:
        added = made_by(z, "Add")
        self.added = None if added is None or scalar(added.inputs[1]) is None else added.inputs[1]
        relu = made_by(z if added is None else added.inputs[0], "Relu")
        if relu is None or (added is not None and self.added is None):
            return no("not of a Relu, nor of one and a number")
        self.x = relu.inputs[0]
        return yes()

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        above = _positive(op, self.x, y)
        return op.Sqrt(above if self.added is None else op.Add(above, self.added))


def _lost(small: float) -> bool:
    """Whether a number loses its digits in fixed point."""
    units = small / UNIT
    return abs(round(units) - units) * LOSS > units


def _least(z: ir.Value, *operators: str) -> float | None:
    """The number that a value is added to, or held above, and that nothing else is; None where there is
    none."""
    node = made_by(z, *operators)
    if node is None or not is_float(z) or not used_once(z) or len(node.inputs) < 2:
        return None
    if node.op_type == "Clip":
        high = None if len(node.inputs) < 3 else node.inputs[2]
        x, least = node.inputs[0], scalar(node.inputs[1])
        if high is not None and not (scalar(high) or math.inf) <= _HIGHEST:
            return None
    else:
        numbers = [scalar(v) for v in node.inputs]
        if len(numbers) != 2 or (numbers[0] is None) == (numbers[1] is None):
            return None
        x, least = node.inputs[numbers.index(None)], numbers[0] if numbers[1] is None else numbers[1]
    scaled = made_by(x, "Mul")
    if scaled is not None and (scalar(scaled.inputs[1]) or 0.0) in _POWERS:
        return None  # raised already
    return least


def _raised(op: Any, z: ir.Value, by: float) -> Any:
    """A sum or a choice of a value and numbers, all of it times a power of two."""
    node = z.producer()
    assert node is not None
    return getattr(op, node.op_type)(*(None if v is None else _times(op, v, by) for v in node.inputs))


def _times(op: Any, x: ir.Value, by: float) -> Any:
    """A value times a power of two; a number stays one."""
    if scalar(x) is not None:
        return constant(op, x.const_value.numpy() * x.dtype.numpy().type(by))
    return op.Mul(x, number_like(op, x, by))


def _untruncated(x: ir.Value | None) -> bool:
    """Whether a sum reads a value as the product it is, which has digits enough."""
    if x is None or not used_once(x):
        return False
    return made_by(x, *_PRODUCTS, "Conv", "ReduceMean") is not None or _fraction(x) > FRACTION


class RootOfSmall(Rule):
    """Sqrt(x + c) -> Sqrt(4^k x + 4^k c) / 2^k, and of max(x, c)"""

    title = "small number in a root"

    def pattern(self, op: Any, z: Any) -> Any:
        return op.Sqrt(z, _outputs=["y"])

    def check(self, context: Any, z: ir.Value, **_: Any) -> Any:
        small = _least(z, "Add", "Max", "Clip")
        if small is None or not SEEN_ROOT <= small < _ENOUGH or not _lost(small):
            return no("not of a small number that fixed point loses")
        node = z.producer()
        if node.op_type == "Add" and any(_untruncated(x) for x in node.inputs):
            return no("the number is added to a product, which has digits enough")
        self.halves = math.ceil(math.log(max(FIVE_BITS / small, 4.0), 4))
        return yes()

    def rewrite(self, op: Any, z: ir.Value, y: ir.Value, **_: Any) -> Any:
        root = op.Sqrt(_raised(op, z, 4.0**self.halves))
        return op.Mul(root, number_like(op, y, 2.0**-self.halves))


class _OverFloor(Rule):
    """A quotient by max(x, c): both sides go up, so that c keeps its digits."""

    def fits(self, z: ir.Value) -> Any:
        small = _least(z, "Max", "Clip")
        if small is None or not FIVE_BITS <= small < _NEAR or small / UNIT % 1 == 0:
            return no("not by a small number that fixed point loses")
        self.by = 2.0 ** max(1, math.ceil(-4 - math.log2(small)))  # which gives it fourteen bits
        return yes()


class OverFloor(_OverFloor):
    """a / max(x, c) -> k a / max(k x, k c)"""

    title = "small number under a quotient"

    def pattern(self, op: Any, a: Any, z: Any) -> Any:
        return op.Div(a, z)

    def check(self, context: Any, z: ir.Value, **_: Any) -> Any:
        return self.fits(z)

    def rewrite(self, op: Any, a: ir.Value, z: ir.Value, **_: Any) -> Any:
        return op.Div(_times(op, a, self.by), _raised(op, z, self.by))


class InverseOfFloor(_OverFloor):
    """Reciprocal(max(x, c)) -> k / max(k x, k c)"""

    title = "small number under one"

    def pattern(self, op: Any, z: Any) -> Any:
        return op.Reciprocal(z, _outputs=["y"])

    def check(self, context: Any, z: ir.Value, y: ir.Value, **_: Any) -> Any:
        if used_once(y) and y.uses()[0].node.op_type == "Mul":
            return no("it becomes a division again")
        return self.fits(z)

    def rewrite(self, op: Any, z: ir.Value, **_: Any) -> Any:
        return op.Div(number_like(op, z, self.by), _raised(op, z, self.by))


RULES = (LogOfSmallSum, LogOfFloor, RootOfRelu)
LATE = (RootOfSmall, OverFloor, InverseOfFloor)
