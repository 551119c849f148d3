"""Constant scale factors are merged: two in a row become one, and one before a change of layout moves behind
it.

Each multiplication of a secret by a fraction costs a truncation; a factor that reaches the scores of an
attention becomes part of its `scale` attribute and costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.marks import is_marked
from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import attribute, is_constant, is_float, keeps_shape, number, used_once


def _is_scale(x: ir.Value, c: ir.Value, product: ir.Value) -> Any:
    if number(c) is None or is_constant(x) or not is_float(x) or not keeps_shape(x, c):
        return no("not a tensor times one number")
    if not used_once(product):
        return no("other nodes read the product too")
    return yes()


class MergeScales(Rule):
    """(x * a) * b -> x * (a b)"""

    title = "merged scales"

    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Any:
        return op.Mul(op.Mul(x, a, _outputs=["product"]), b)

    def check(self, context: Any, x: ir.Value, a: ir.Value, b: ir.Value, product: ir.Value, **_: Any) -> Any:
        if number(b) is None or not keeps_shape(x, b):
            return no("the second factor is not one number")
        both = (number(a) or 0.0) * (number(b) or 0.0)
        if both == 0 or not 1e-30 < abs(both) < 1e30:
            return no("the factors do not multiply to an ordinary number")
        return _is_scale(x, a, product)

    def rewrite(self, op: Any, x: ir.Value, a: ir.Value, b: ir.Value, **_: Any) -> Any:
        both = np.float64(number(a)) * np.float64(number(b))
        return op.Mul(x, constant(op, both, like=b if is_marked(b) else a))


class ScaleAfterTranspose(Rule):
    """Transpose(x * a) -> Transpose(x) * a"""

    title = "scale after transpose"

    def pattern(self, op: Any, x: Any, a: Any) -> Any:
        return op.Transpose(op.Mul(x, a, _outputs=["product"]), _outputs=["y"])

    def check(self, context: Any, x: ir.Value, a: ir.Value, product: ir.Value, **_: Any) -> Any:
        return _is_scale(x, a, product)

    def rewrite(self, op: Any, x: ir.Value, a: ir.Value, y: ir.Value, **_: Any) -> Any:
        perm = attribute(y, "perm")
        moved = op.Transpose(x) if perm is None else op.Transpose(x, perm=perm)
        return op.Mul(moved, constant(op, number(a), like=a))


class ScaleAfterReshape(Rule):
    """Reshape(x * a, s) -> Reshape(x, s) * a"""

    title = "scale after reshape"

    def pattern(self, op: Any, x: Any, a: Any, shape: Any) -> Any:
        return op.Reshape(op.Mul(x, a, _outputs=["product"]), shape, _outputs=["y"])

    def check(self, context: Any, x: ir.Value, a: ir.Value, product: ir.Value, **_: Any) -> Any:
        return _is_scale(x, a, product)

    def rewrite(self, op: Any, x: ir.Value, a: ir.Value, shape: ir.Value, y: ir.Value, **_: Any) -> Any:
        moved = op.Reshape(x, shape, allowzero=attribute(y, "allowzero"))
        return op.Mul(moved, constant(op, number(a), like=a))


RULES = (MergeScales, ScaleAfterTranspose, ScaleAfterReshape)
