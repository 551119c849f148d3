"""Division becomes multiplication: by the reciprocal of a constant, or of a square root.

Division by a secret is the most expensive arithmetic; division by a constant need not be a division. A
reciprocal that no rule has absorbed becomes a division again at the end, which keeps its digits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.marks import is_shown
from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import is_constant, is_float, keeps_shape, scalar, small_array, used_once
from onnxpuma.standard.fixed_point import FRACTION, LEAST_SPARE, MOST_SPARE

_ALL_SMALL = 2.0**-12
_LOST = 2.0**-9


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
            return no("the divisor is public, and its reciprocals need more digits than one scale has")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        return _times(op, x, 1.0 / c.const_value.numpy().astype(np.float64), c)


def _held(values: np.ndarray) -> np.ndarray:
    """The numbers rounded to fixed point, which has more bits for an array of small ones
    (plan/weights/scaling.py)."""
    largest = float(np.abs(values).max(initial=0.0))
    spare = max(0, -math.floor(math.log2(largest)) - 1) if largest else 0
    scale = 2.0 ** (FRACTION + (min(spare, MOST_SPARE) if spare >= LEAST_SPARE else 0))
    return np.asarray(np.rint(values * scale) / scale)


def _uneven(values: np.ndarray) -> bool:
    """Whether some of several factors are so much smaller than others that they lose their digits."""
    values = values.astype(np.float64)
    if values.size < 2 or np.abs(values).max() < _ALL_SMALL:
        return False
    return bool(np.any(np.abs(_held(values) - values) > _LOST * np.abs(values)))


def _times(op: Any, x: ir.Value, values: np.ndarray, like: ir.Value) -> Any:
    """x times constants; the digits that small ones lose beside large ones form a separate product."""
    if not _uneven(values):
        return op.Mul(x, constant(op, values, like=like))
    coarse = _held(values).astype(np.float32)
    rest = constant(op, values - coarse, like=like)
    return op.Add(op.Mul(x, constant(op, coarse, like=like)), op.Mul(x, rest))


class Standardised(Rule):
    """(x - m) * w -> (x - m) * w' + (x - m) * w'', w of very different sizes"""

    title = "factors of very different sizes"

    def pattern(self, op: Any, x: Any, m: Any, w: Any) -> Any:
        return op.Mul(op.Sub(x, m, _outputs=["d"]), w)

    def check(self, context: Any, m: ir.Value, w: ir.Value, d: ir.Value, **_: Any) -> Any:
        values = small_array(w)
        if not is_constant(m) or not is_float(d) or values is None or not _uneven(values):
            return no("not a difference from constants, times factors of very different sizes")
        return yes()

    def rewrite(self, op: Any, w: ir.Value, d: ir.Value, **_: Any) -> Any:
        return _times(op, d, w.const_value.numpy().astype(np.float64), w)


class Quotient(Rule):
    """x * Reciprocal(y) -> x / y"""

    title = "division again"

    def pattern(self, op: Any, x: Any, y: Any) -> Any:
        return op.Mul(x, op.Reciprocal(y, _outputs=["inverse"]))

    def check(self, context: Any, y: ir.Value, inverse: ir.Value, **_: Any) -> Any:
        if is_constant(y) or not used_once(inverse):
            return no("other nodes read the reciprocal, or it is that of a constant")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, y: ir.Value, **_: Any) -> Any:
        return op.Div(x, y)


def _at_one_scale(divisor: np.ndarray) -> bool:
    """Whether the reciprocals of public numbers keep their digits in a product with one scale for all."""
    sizes = np.abs(divisor.astype(np.float64))
    return bool(
        sizes.min() >= 2.0**-8 and sizes.max() <= 2.0**16 and sizes.max() <= 8 * max(sizes.min(), 1.0)
    )


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


RULES = (OneOver, DivideByRoot, DivideByConstant, Standardised)
LATE = (Quotient,)
