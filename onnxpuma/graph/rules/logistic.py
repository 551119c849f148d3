"""Sigmoid, SiLU and tanh written out with exponentials, recognised by the function they compute.

A lone exponential is limited by the format, and the quotient would be checked against that limit; the whole
function has no limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.activation import SAMPLES, Activation, Swish, sigmoid, slope


class _Quotient(Activation):
    """A quotient that computes a known function of one tensor."""

    needs = "Exp"

    def pattern(self, op: Any, a: Any, b: Any) -> Any:
        return op.Div(a, b, _outputs=["y"])


class Sigmoid(_Quotient):
    """1 / (1 + e^(-alpha x)), or e^(alpha x) / (1 + e^(alpha x)) -> Sigmoid(alpha x)"""

    title = "Sigmoid"

    def is_it(self, values: np.ndarray) -> bool:
        self.alpha = slope(values)
        return bool(np.allclose(values, sigmoid(self.alpha * SAMPLES), rtol=0, atol=1e-6))

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        if self.alpha == 1:
            return op.Sigmoid(self.x)
        assert y.dtype is not None
        factor = op.Constant(value=ir.tensor(np.asarray(self.alpha, y.dtype.numpy())))
        return op.Sigmoid(op.Mul(self.x, factor))


class SigmoidReciprocal(Sigmoid):
    """Reciprocal(1 + e^(-alpha x)) -> Sigmoid(alpha x)"""

    def pattern(self, op: Any, a: Any) -> Any:  # type: ignore[override]
        return op.Reciprocal(a, _outputs=["y"])


class Tanh(_Quotient):
    """(e^x - e^-x) / (e^x + e^-x), or (e^2x - 1) / (e^2x + 1) -> Tanh(x)"""

    title = "Tanh"

    def is_it(self, values: np.ndarray) -> bool:
        return bool(np.allclose(values, np.tanh(SAMPLES), rtol=0, atol=1e-6))

    def rewrite(self, op: Any, **_: Any) -> Any:
        return op.Tanh(self.x)


class SwishQuotient(Swish):
    """x / (1 + e^(-alpha x)) -> Swish(x, alpha)"""

    needs = "Exp"

    def pattern(self, op: Any, a: Any, b: Any) -> Any:
        return op.Div(a, b, _outputs=["y"])


RULES = (SwishQuotient, Sigmoid, SigmoidReciprocal, Tanh)
