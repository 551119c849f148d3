"""Small numbers inside a logarithm are scaled up with the value they are added to: log(y + c) = log(k y + k
c) - log k.

A product with a power of ten costs nothing, and 1e-8 would be zero in fixed point.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.log_sum import number_like
from onnxpuma.graph.rules.rule import Rule, is_float, no, rank, scalar, yes

_ENOUGH = 2.0**-12  # a number of at least this keeps its digits
_NEAR = 2.0**-4  # the error of a Relu counts beside a smaller number
_WITHIN = 2.0**-22  # a floor below it lies between zero and the first unit
_UNITS = 16  # units of fixed point that a scaled number should have
_MOST = 1e9  # a larger factor would leave the value no room
_PRODUCTS = ("Mul", "MatMul", "Gemm", "ReduceSumSquare", "Einsum")


def _node(value: ir.Value | None, *operators: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and not node.domain and node.op_type in operators else None


def _is_square(value: ir.Value | None) -> bool:
    """Whether a value is a square, or a sum of squares."""
    if (node := _node(value, "Mul")) is not None:
        return node.inputs[0] is node.inputs[1]
    node = _node(value, "ReduceSum", "ReduceSumSquare")
    return node is not None and (node.op_type == "ReduceSumSquare" or _is_square(node.inputs[0]))


def _fraction(value: ir.Value) -> int:
    """The fraction bits of a value as a logarithm reads it."""
    node = _node(value, "ReduceSum")
    return 18 if _node(node.inputs[0] if node is not None else value, *_PRODUCTS) is None else 36


def _power(small: float, fraction: int = 18) -> float:
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
        return yes() if lost or _node(x, "Relu") is not None else no("it keeps its digits")

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, y: ir.Value, **_: Any) -> Any:
        small = scalar(c) or 0.0
        by, relu = _power(small, _fraction(x)), _node(x, "Relu")
        if relu is None:
            return _scaled_log(op, y, x, small, by, "Add")
        return _scaled_log(op, y, relu.inputs[0], small, by, "Add", True)


class LogOfFloor(Rule):
    """Log(max(x, c)) -> Log(max(k x, k c)) - log k, or a sum where c is below the least unit of x"""

    title = "small floor in a logarithm"

    def pattern(self, op: Any, z: Any) -> Any:
        return op.Log(z, _outputs=["y"])

    def check(self, context: Any, z: ir.Value, **_: Any) -> Any:
        node = _node(z, "Max", "Clip")
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
        relu = _node(x, "Relu")
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
        added = _node(z, "Add")
        self.added = None if added is None or scalar(added.inputs[1]) is None else added.inputs[1]
        relu = _node(z if added is None else added.inputs[0], "Relu")
        if relu is None or (added is not None and self.added is None):
            return no("not of a Relu, nor of one and a number")
        self.x = relu.inputs[0]
        return yes()

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        above = _positive(op, self.x, y)
        return op.Sqrt(above if self.added is None else op.Add(above, self.added))


RULES = (LogOfSmallSum, LogOfFloor, RootOfRelu)
