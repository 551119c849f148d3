"""Root-mean-square normalisation written out becomes RMSNormalization: first its core, then its scale.

The core is x / sqrt(mean(x^2) + eps) over the last axis, in the spelling that the arithmetic rules leave. It
also fits the inside of a layer normalisation, so the rules for that one come first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.layer_norm import is_vector_for
from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import are_ones, attribute, is_trailing_axis, rank, scalar, static_dim, used_once


class Core(Rule):
    """x * Reciprocal(Sqrt(mean(x^2) + eps)) -> RMSNormalization(x, ones)"""

    title = "RMSNormalization"

    def pattern(self, op: Any, x: Any, axes: Any, eps: Any) -> Any:
        mean = op.ReduceMean(op.Mul(x, x), axes, _outputs=["mean"])
        return op.Mul(x, op.Reciprocal(op.Sqrt(op.Add(mean, eps))))

    def check(
        self, context: Any, x: ir.Value, axes: ir.Value, eps: ir.Value, mean: ir.Value, **_: Any
    ) -> Any:
        if not is_trailing_axis(axes, x) or not attribute(mean, "keepdims"):
            return no("the mean is not taken over the last axis, or does not keep it")
        if scalar(eps) is None:
            return no("epsilon is not a constant")
        return yes() if static_dim(x, -1) is not None else no("the width of the last axis is not fixed")

    def rewrite(self, op: Any, x: ir.Value, eps: ir.Value, **_: Any) -> Any:
        ones = constant(op, np.ones(static_dim(x, -1)), like=x)
        return op.RMSNormalization(x, ones, axis=-1, epsilon=scalar(eps))


class Scale(Rule):
    """RMSNormalization(x, ones) * w -> RMSNormalization(x, w)"""

    title = "RMSNormalization scale"

    def pattern(self, op: Any, x: Any, ones: Any, w: Any) -> Any:
        return op.Mul(op.RMSNormalization(x, ones, _outputs=["y"]), w)

    def check(self, context: Any, x: ir.Value, ones: ir.Value, w: ir.Value, y: ir.Value, **_: Any) -> Any:
        if not are_ones(ones) or not used_once(y):
            return no("it already has a scale, or other nodes read the unscaled result")
        return yes() if is_vector_for(w, x) else no("the factor is not a vector along the last axis")

    def rewrite(self, op: Any, x: ir.Value, w: ir.Value, y: ir.Value, **_: Any) -> Any:
        return op.RMSNormalization(x, w, axis=-1, epsilon=attribute(y, "epsilon"))


class Centred(Rule):
    """RMSNormalization(x - mean(x), w) -> LayerNormalization(x, w)"""

    title = "RMSNormalization of what is centred"

    def pattern(self, op: Any, x: Any, axes: Any, w: Any) -> Any:
        centred = op.Sub(x, op.ReduceMean(x, axes, _outputs=["mean"]))
        return op.RMSNormalization(centred, w, _outputs=["y"])

    def check(self, context: Any, x: ir.Value, axes: ir.Value, mean: ir.Value, y: ir.Value, **_: Any) -> Any:
        if not is_trailing_axis(axes, x) or not attribute(mean, "keepdims"):
            return no("the mean is not taken over the last axis, or does not keep it")
        if attribute(y, "axis") not in (-1, (rank(x) or 0) - 1):
            return no("not normalised over the last axis")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, w: ir.Value, y: ir.Value, **_: Any) -> Any:
        return op.LayerNormalization(x, w, axis=-1, epsilon=attribute(y, "epsilon"))


RULES = (Core, Scale, Centred)
