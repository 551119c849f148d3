"""Division becomes multiplication: by the reciprocal of a constant, or of a square root.

Division by a secret is the dearest arithmetic there is; division by a constant need not be one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.marks import is_shown
from onnxpuma.graph.rules.rule import (
    Rule,
    constant,
    is_constant,
    is_float,
    keeps_shape,
    no,
    scalar,
    small_array,
    yes,
)


class DivideByConstant(Rule):
    """x / c -> x * (1 / c)"""

    title = "division by a constant"

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Div(x, c)

    def check(self, context: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        if is_constant(x) or not is_float(x):
            return no("not a float divided by a constant")
        divisor = small_array(c)
        if divisor is None:
            return no("the divisor is not a small constant")
        if not np.all(np.isfinite(divisor)) or np.any(divisor == 0):
            return no("the divisor is zero or infinite somewhere")
        if is_shown(c) and not _at_one_scale(divisor):
            return no("the divisor is public, and its reciprocals have more digits than one scale holds")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        return op.Mul(x, constant(op, 1.0 / c.const_value.numpy().astype(np.float64), like=c))


def _at_one_scale(divisor: np.ndarray) -> bool:
    """Whether the reciprocals of public numbers keep their digits in a product with all of them."""
    sizes = np.abs(divisor.astype(np.float64))
    return bool(sizes.max() <= 2.0**16 and sizes.max() <= 8 * max(sizes.min(), 1.0))


class OneOver(Rule):
    """1 / x -> Reciprocal(x)"""

    title = "one divided by"

    def pattern(self, op: Any, one: Any, x: Any) -> Any:
        return op.Div(one, x)

    def check(self, context: Any, one: ir.Value, x: ir.Value, **_: Any) -> Any:
        if scalar(one) != 1.0 or not is_float(x) or not keeps_shape(x, one):
            return no("the dividend is not one")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        return op.Reciprocal(x)


class DivideByRoot(Rule):
    """x / sqrt(v) -> x * Reciprocal(Sqrt(v))"""

    title = "division by a square root"

    def pattern(self, op: Any, x: Any, v: Any) -> Any:
        return op.Div(x, op.Sqrt(v, _outputs=["root"]))

    def rewrite(self, op: Any, x: ir.Value, root: ir.Value, **_: Any) -> Any:
        return op.Mul(x, op.Reciprocal(root))


RULES = (OneOver, DivideByRoot, DivideByConstant)
