"""A product with a weight on flattened rows, as some exporters write a linear layer, is moved to the tensor.

Reshape to (rows, n), Gemm, Reshape back: MatMul and Add are equivalent, and leave the axes alone.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.rules.shape_vector import dims, number, reshapes_to
from onnxpuma.graph.values import attribute, is_constant, rank, static_dim, used_once


class Flattened(Rule):
    """Reshape(Gemm(Reshape(x), w, b)) -> Add(MatMul(x, w), b), where only the leading axes were flattened"""

    title = "product on flattened rows"

    def pattern(self, op: Any, x: Any, flat_shape: Any, w: Any, shape: Any) -> Any:
        flat = op.Reshape(x, flat_shape, _outputs=["flat"])
        product = op.Gemm(flat, w, _allow_other_inputs=True, _outputs=["product"])
        return op.Reshape(product, shape, _outputs=["y"])

    def check(
        self, context: Any, x: ir.Value, flat: ir.Value, w: ir.Value, product: ir.Value, y: ir.Value, **_: Any
    ) -> Any:
        if (rank(x) or 0) < 3 or rank(flat) != 2 or rank(w) != 2 or not used_once(product):
            return no("not a tensor whose rows are flattened for this product alone")
        if attribute(product, "transA") or attribute(product, "alpha") != 1.0:
            return no("the product is transposed or scaled")
        bias = _bias(product)
        if bias is not None and (rank(bias) != 1 or attribute(product, "beta") != 1.0):
            return no("the added term is not a vector")
        inner = static_dim(x, -1)
        columns = static_dim(product, -1)
        before = dims(x)
        if inner is None or columns is None or before is None or static_dim(flat, -1) != inner:
            return no("the width is not fixed, or the last axis is flattened too")
        if not is_constant(w) or not reshapes_to(y, [*before[:-1], number(columns)]):
            return no("the second Reshape does not restore the shape")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, w: ir.Value, product: ir.Value, **_: Any) -> Any:
        weight = op.Transpose(w, perm=[1, 0]) if attribute(product, "transB") else w
        y = op.MatMul(x, weight)
        bias = _bias(product)
        return y if bias is None else op.Add(y, bias)


def _bias(product: ir.Value) -> ir.Value | None:
    inputs = product.producer().inputs
    return inputs[2] if len(inputs) > 2 else None


RULES = (Flattened,)
