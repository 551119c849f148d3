"""Powers with a constant exponent become products and roots: x^2 -> x x, x^0.5 -> Sqrt(x), x^-1 ->
Reciprocal(x)."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import is_float, keeps_shape, scalar


class ConstantPower(Rule):
    """Pow(x, c) for c in 1, 2, 3, 4, 0.5, -0.5, -1, -2"""

    title = "constant power"

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Pow(x, c)

    def check(self, context: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        if not is_float(x) or not keeps_shape(x, c):
            return no("the base is not a float tensor of at least the exponent's rank")
        if scalar(c) not in (1.0, 2.0, 3.0, 4.0, 0.5, -0.5, -1.0, -2.0):
            return no("the exponent is not a small constant")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        exponent = scalar(c)
        if exponent == 1.0:
            return op.Identity(x)
        if exponent in (0.5, -0.5):
            root = op.Sqrt(x)
            return root if exponent > 0 else op.Reciprocal(root)
        if exponent == -1.0:
            return op.Reciprocal(x)
        square = op.Mul(x, x)
        if exponent == -2.0:
            return op.Reciprocal(square)
        if exponent == 2.0:
            return square
        return op.Mul(square, x if exponent == 3.0 else square)


RULES = (ConstantPower,)
