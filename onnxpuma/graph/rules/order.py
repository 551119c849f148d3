"""Constants come second in sums and products, reciprocals second in products: one spelling for each."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import is_constant


class _ConstantSecond(Rule):
    def check(self, context: Any, c: ir.Value, x: ir.Value, **_: Any) -> Any:
        if not is_constant(c) or is_constant(x):
            return no("the first operand is not a constant, or both are")
        return yes()


class ConstantSecondInSum(_ConstantSecond):
    """c + x -> x + c"""

    title = "constant second in a sum"

    def pattern(self, op: Any, c: Any, x: Any) -> Any:
        return op.Add(c, x)

    def rewrite(self, op: Any, c: ir.Value, x: ir.Value, **_: Any) -> Any:
        return op.Add(x, c)


class ConstantSecondInProduct(_ConstantSecond):
    """c * x -> x * c"""

    title = "constant second in a product"

    def pattern(self, op: Any, c: Any, x: Any) -> Any:
        return op.Mul(c, x)

    def rewrite(self, op: Any, c: ir.Value, x: ir.Value, **_: Any) -> Any:
        return op.Mul(x, c)


class ReciprocalSecond(Rule):
    """(1 / v) * x -> x * (1 / v)"""

    title = "reciprocal second in a product"

    def pattern(self, op: Any, v: Any, x: Any) -> Any:
        return op.Mul(op.Reciprocal(v, _outputs=["r"]), x)

    def check(self, context: Any, x: ir.Value, **_: Any) -> Any:
        producer = x.producer()
        if is_constant(x) or (producer is not None and producer.op_type == "Reciprocal"):
            return no("the second operand is a constant or a reciprocal too")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, r: ir.Value, **_: Any) -> Any:
        return op.Mul(x, r)


RULES = (ConstantSecondInSum, ConstantSecondInProduct, ReciprocalSecond)
