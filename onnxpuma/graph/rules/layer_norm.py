"""Layer normalisation written out becomes LayerNormalization: first its core, then its scale, then its bias.

The core is (x - m) / sqrt(mean((x - m)^2) + eps) with m = mean(x) over the last axis, in the spelling that
the arithmetic rules leave; a scale of ones stands in until the real one is found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import are_ones, attribute, is_trailing_axis, rank, scalar, static_dim, used_once


class Core(Rule):
    """(x - mean(x)) * Reciprocal(Sqrt(mean((x - mean(x))^2) + eps)) -> LayerNormalization(x, ones)"""

    title = "LayerNormalization"

    def pattern(self, op: Any, x: Any, axes: Any, axes2: Any, eps: Any) -> Any:
        d = op.Sub(x, op.ReduceMean(x, axes, _outputs=["mean"]))
        variance = op.ReduceMean(op.Mul(d, d), axes2, _outputs=["variance"])
        return op.Mul(d, op.Reciprocal(op.Sqrt(op.Add(variance, eps))))

    def check(
        self,
        context: Any,
        x: ir.Value,
        axes: ir.Value,
        axes2: ir.Value,
        eps: ir.Value,
        mean: ir.Value,
        variance: ir.Value,
        **_: Any,
    ) -> Any:
        if not (is_trailing_axis(axes, x) and is_trailing_axis(axes2, x)):
            return no("the mean is not taken over the last axis")
        if not (attribute(mean, "keepdims") and attribute(variance, "keepdims")):
            return no("the mean does not keep its axis")
        if scalar(eps) is None:
            return no("epsilon is not a constant")
        return yes() if static_dim(x, -1) is not None else no("the width of the last axis is not fixed")

    def rewrite(self, op: Any, x: ir.Value, eps: ir.Value, **_: Any) -> Any:
        ones = constant(op, np.ones(static_dim(x, -1)), like=x)
        return op.LayerNormalization(x, ones, axis=-1, epsilon=scalar(eps))


def is_vector_for(scale: ir.Value, y: ir.Value) -> bool:
    """True when `scale` is a vector as long as the last axis of `y`."""
    width = static_dim(y, -1)
    return rank(scale) == 1 and width is not None and static_dim(scale, 0) == width


class Scale(Rule):
    """LayerNormalization(x, ones) * w -> LayerNormalization(x, w)"""

    title = "LayerNormalization scale"

    def pattern(self, op: Any, x: Any, ones: Any, w: Any) -> Any:
        return op.Mul(op.LayerNormalization(x, ones, _outputs=["y"]), w)

    def check(self, context: Any, x: ir.Value, ones: ir.Value, w: ir.Value, y: ir.Value, **_: Any) -> Any:
        if not are_ones(ones) or not used_once(y):
            return no("it already has a scale, or other nodes read the unscaled result")
        return yes() if is_vector_for(w, x) else no("the factor is not a vector along the last axis")

    def rewrite(self, op: Any, x: ir.Value, w: ir.Value, y: ir.Value, **_: Any) -> Any:
        return op.LayerNormalization(x, w, axis=attribute(y, "axis"), epsilon=attribute(y, "epsilon"))


class Bias(Rule):
    """LayerNormalization(x, w) + b -> LayerNormalization(x, w, b)"""

    title = "LayerNormalization bias"

    def pattern(self, op: Any, x: Any, w: Any, b: Any) -> Any:
        return op.Add(op.LayerNormalization(x, w, _outputs=["y"]), b)

    def check(self, context: Any, x: ir.Value, b: ir.Value, y: ir.Value, **_: Any) -> Any:
        if not used_once(y) or b.const_value is None:
            return no("the added term is not a constant, or other nodes read the unshifted result")
        return yes() if is_vector_for(b, x) else no("the term is not a vector along the last axis")

    def rewrite(self, op: Any, x: ir.Value, w: ir.Value, b: ir.Value, y: ir.Value, **_: Any) -> Any:
        axis, epsilon = attribute(y, "axis"), attribute(y, "epsilon")
        return op.LayerNormalization(x, w, b, axis=axis, epsilon=epsilon)


RULES = (Core, Scale, Bias)
