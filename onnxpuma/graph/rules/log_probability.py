"""Logarithms of probabilities become LogSoftmax and Softplus, with or without a floor.

So log(Softmax(x) + 1e-8) is right where the probability itself has no digits left.
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.log_sum import number_like
from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import attribute, is_float, rank, scalar

_SMALL = 2.0**-8  # a larger floor keeps enough digits anyway


class SumOfTwo(Rule):
    """log(e^a + e^b) -> a + Softplus(b - a); log(1 + e^x) -> Softplus(x)"""

    title = "Softplus"

    def pattern(self, op: Any, a: Any, b: Any) -> Any:
        return op.Log(op.Add(op.Exp(a), b), _outputs=["y"])

    def check(self, context: Any, a: ir.Value, b: ir.Value, **_: Any) -> Any:
        node, extent = b.producer(), rank(b)
        exponential = node is not None and not node.domain and node.op_type == "Exp"
        self.other = node.inputs[0] if node is not None and exponential else None
        if self.other is not None:
            return yes()
        if scalar(b) != 1.0 or extent is None or extent > (rank(a) or 0):
            return no("neither 1 nor another exponential is added")
        return yes()

    def rewrite(self, op: Any, a: ir.Value, **_: Any) -> Any:
        return op.Softplus(a) if self.other is None else op.Add(a, op.Softplus(op.Sub(self.other, a)))


class LogOfProbability(Rule):
    """log p -> LogSoftmax(x) or -Softplus(-x); log(p + c) and log max(p, c) with a small c likewise"""

    title = "logarithm of a probability"

    def pattern(self, op: Any, p: Any) -> Any:
        return op.Log(p, _outputs=["y"])

    def check(self, context: Any, p: ir.Value, **_: Any) -> Any:
        self.added = self.low = self.high = None
        if not is_float(p):
            return no("not of floats")
        node = p.producer()
        if node is None or node.domain:
            return no("not of a probability")
        inner = p
        if node.op_type == "Add" and rank(node.inputs[1]) in (0, rank(p)) and node.inputs[0] is not None:
            self.added, inner = scalar(node.inputs[1]), node.inputs[0]
            if self.added is None or not 0 < self.added < _SMALL:
                return no("the added term is not a small number")
        elif node.op_type in ("Clip", "Max"):
            found = self._ends(node)
            if found is None:
                return no("the ends are not two numbers, the second above the first")
            inner, self.low, self.high = found
        self.of = inner
        return yes() if _is_probability(inner) else no("not of a probability")

    @staticmethod
    def _ends(node: ir.Node) -> tuple[ir.Value, float, float | None] | None:
        """(p, low, high) of Clip(p, low, high), or of Max(p, low)."""
        x, *ends = node.inputs
        if node.op_type == "Max" and len(ends) == 1 and scalar(x) is not None:
            x, ends = ends[0], [x]
        if x is None or not ends or (node.op_type == "Max" and len(ends) > 1):
            return None
        low, high = scalar(ends[0]), scalar(ends[1]) if len(ends) > 1 else None
        if any(rank(e) not in (0, rank(x)) for e in ends if e is not None) or low is None:
            return None
        if (len(ends) > 1 and ends[1] is not None and high is None) or not 0 < low < (high or 1.0):
            return None
        return x, low, high

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        made = _log_probability(op, self.of)
        if self.added is not None:
            floor = math.log(self.added)
            return op.Add(op.Softplus(op.Sub(made, number_like(op, y, floor))), number_like(op, y, floor))
        if self.low is not None:
            ends = [self.low] if self.high is None else [self.low, self.high]
            return op.Clip(made, *(number_like(op, y, math.log(end)) for end in ends))
        return made


def _complement(p: ir.Value) -> ir.Value | None:
    """q of p = 1 - q, in any spelling."""
    node = p.producer()
    if node is None or node.domain or node.op_type not in ("Sub", "Add"):
        return None
    a, b = node.inputs
    if node.op_type == "Sub":
        return b if scalar(a) == 1.0 and rank(a) == 0 else None
    negative = None if a is None else a.producer()
    if scalar(b) == 1.0 and rank(b) == 0 and negative is not None and negative.op_type == "Neg":
        return negative.inputs[0]
    return None


def _is_probability(p: ir.Value | None) -> bool:
    node = None if p is None else p.producer()
    if p is None or node is None or node.domain:
        return False
    if node.op_type in ("Softmax", "Sigmoid"):
        return True
    q = _complement(p)
    made = None if q is None else q.producer()
    return made is not None and not made.domain and made.op_type == "Sigmoid"


def _log_probability(op: Any, p: ir.Value) -> Any:
    node, q = p.producer(), _complement(p)
    assert node is not None
    if node.op_type == "Softmax":
        return op.LogSoftmax(node.inputs[0], axis=attribute(p, "axis"))
    if node.op_type == "Sigmoid":
        return op.Neg(op.Softplus(op.Neg(node.inputs[0])))
    made = q.producer() if q is not None else None
    assert made is not None
    return op.Neg(op.Softplus(made.inputs[0]))


RULES = (SumOfTwo, LogOfProbability)
