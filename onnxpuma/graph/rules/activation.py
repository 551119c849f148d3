"""GELU and SiLU written out become Gelu and Swish, recognised by the function they compute, whatever the
spelling.

From a product backwards, the elementwise operators that depend on one tensor x (and on numbers) are evaluated
at sample points. Where the result is that of GELU, of its tanh form, or of x sigmoid(alpha x), that one
operator replaces the whole expression. Every order of factors, and every way to write the cube, is recognised
alike.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import is_constant, is_float, rank, scalar

SAMPLES = np.linspace(-6.0, 6.0, 49)
# GELU and its tanh form differ by 4.7e-4; constants rounded to half precision move either by less than 1e-4.
_TOLERANCE = 1e-4
_MOST_NODES = 24

_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


_ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Reciprocal": np.reciprocal,
    "Identity": np.asarray,
    "Erf": _erf,
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
}


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _cone(y: ir.Value) -> tuple[set[str], list[ir.Value]]:
    """The elementwise operators behind `y`, and the tensors they read, nearest first."""
    operators: set[str] = set()
    read: dict[ir.Value, None] = {}
    todo = [y]
    while todo and len(read) < _MOST_NODES:
        node = todo.pop(0).producer()
        if node is None or node.domain or node.op_type not in _ELEMENTWISE:
            continue
        operators.add(node.op_type)
        for value in node.inputs:
            if value is not None and not is_constant(value) and value not in read:
                read[value] = None
                todo.append(value)
    return operators, list(read)


def _evaluate(value: ir.Value | None, known: dict[ir.Value, np.ndarray | None]) -> np.ndarray | None:
    """`value` on the sample points, or None where it depends on more than the tensor sampled."""
    if value is None:
        return None
    if value not in known:
        number, node = scalar(value), value.producer()
        if number is not None:
            known[value] = np.full_like(SAMPLES, number)
        elif is_constant(value) or node is None or node.domain or node.op_type not in _ELEMENTWISE:
            known[value] = None
        else:
            arguments = [_evaluate(v, known) for v in node.inputs]
            if any(a is None for a in arguments):
                known[value] = None
            else:
                with np.errstate(all="ignore"):
                    known[value] = _ELEMENTWISE[node.op_type](*arguments)
    return known[value]


class Activation(Rule):
    """A product that computes a known function of one tensor becomes that function."""

    needs = ""

    def pattern(self, op: Any, a: Any, b: Any) -> Any:
        return op.Mul(a, b, _outputs=["y"])

    def check(self, context: Any, y: ir.Value, **_: Any) -> Any:
        if not is_float(y):
            return no("not a product of floats")
        operators, read = _cone(y)
        if self.needs not in operators:
            return no(f"no {self.needs} in the expression")
        for x in reversed(read):
            values = _evaluate(y, {x: SAMPLES})
            if values is not None and rank(x) == rank(y) and self.is_it(values):
                self.x = x
                return yes()
        return no(f"not {self.title} of one tensor")

    @abstractmethod
    def is_it(self, values: np.ndarray) -> bool:
        """Whether the function has these values at the sample points."""


class Gelu(Activation):
    """x (1 + erf(x / sqrt 2)) / 2 -> Gelu(x)"""

    title = "Gelu"
    needs = "Erf"

    def is_it(self, values: np.ndarray) -> bool:
        return bool(np.allclose(values, gelu(SAMPLES), rtol=0, atol=_TOLERANCE))

    def rewrite(self, op: Any, **_: Any) -> Any:
        return op.Gelu(self.x, approximate="none")


class GeluTanh(Activation):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 -> Gelu(x, approximate=tanh)"""

    title = "Gelu (tanh)"
    needs = "Tanh"

    def is_it(self, values: np.ndarray) -> bool:
        return bool(np.allclose(values, gelu_tanh(SAMPLES), rtol=0, atol=_TOLERANCE))

    def rewrite(self, op: Any, **_: Any) -> Any:
        return op.Gelu(self.x, approximate="tanh")


def slope(values: np.ndarray) -> float:
    """The alpha of sigmoid(alpha x), from its value at one; NaN if it is no sigmoid."""
    at_one = float(np.interp(1.0, SAMPLES, values))
    # Rounded to a float32: the constant in the file, without the noise of the logarithm.
    return float(f"{math.log(at_one / (1 - at_one)):.7g}") if 0 < at_one < 1 else math.nan


class Swish(Activation):
    """x sigmoid(alpha x) -> Swish(x, alpha); alpha is 1 in SiLU, 1.702 in the quick GELU"""

    title = "Swish"
    needs = "Sigmoid"

    def is_it(self, values: np.ndarray) -> bool:
        self.alpha = slope(values)  # x is one there
        expected = SAMPLES * sigmoid(self.alpha * SAMPLES)
        return bool(np.allclose(values, expected, rtol=0, atol=1e-6))

    def rewrite(self, op: Any, **_: Any) -> Any:
        return op.Swish(self.x, alpha=self.alpha)


RULES = (Gelu, GeluTanh, Swish)
