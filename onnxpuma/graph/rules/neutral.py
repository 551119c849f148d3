"""Additions of zero and multiplications by one are removed; exactly zero and one, so that an epsilon of 1e-12
stays."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import keeps_shape, scalar


class _Neutral(Rule):
    neutral = 0.0

    def check(self, context: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        if scalar(c) != self.neutral or not keeps_shape(x, c):
            return no("the constant is not neutral, or broadcasts the tensor")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        return op.Identity(x)


class AddZero(_Neutral):
    """x + 0 -> x"""

    title = "plus zero"

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Add(x, c)


class SubtractZero(_Neutral):
    """x - 0 -> x"""

    title = "minus zero"

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Sub(x, c)


class TimesOne(_Neutral):
    """x * 1 -> x"""

    title = "times one"
    neutral = 1.0

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Mul(x, c)


class OverOne(_Neutral):
    """x / 1 -> x"""

    title = "divided by one"
    neutral = 1.0

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        return op.Div(x, c)


RULES = (AddZero, SubtractZero, TimesOne, OverOne)
