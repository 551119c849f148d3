"""Softmax, and logarithms of sums of exponentials, written out, become Softmax and ReduceLogSumExp.

These need no exponential of a large number; the expressions written out may.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import attribute, rank, scalar, small_array, static_dim

_NEGLIGIBLE = 1e-6  # beside a sum of exponentials of which one is 1
_REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare")


def axes_along(axes: ir.Value | None, x: ir.Value) -> tuple[int, ...] | None:
    """The axes of a reduction of `x`, counted from its first; None where they are not known."""
    extent, values = rank(x), small_array(axes)
    if extent is None or (axes is not None and values is None):
        return None
    if values is None or not values.size:
        return tuple(range(extent))
    return tuple(sorted(int(a) % extent for a in values.reshape(-1)))


def number_like(op: Any, like: ir.Value, value: float | np.ndarray) -> ir.Value:
    """A number, or several, of the element type of `like`."""
    return constant(op, np.asarray(value, like.dtype.numpy()))


class KeptAxes(Rule):
    """Unsqueeze(Reduce(x, axes, keepdims=0), axes) -> Reduce(x, axes)"""

    title = "reduced axes kept"

    def pattern(self, op: Any, r: Any, axes: Any) -> Any:
        return op.Unsqueeze(r, axes, _outputs=["y"])

    def check(self, context: Any, r: ir.Value, axes: ir.Value, **_: Any) -> Any:
        node = r.producer()
        if node is None or node.domain or node.op_type not in _REDUCTIONS or attribute(r, "keepdims"):
            return no("not of a reduction that drops its axes")
        x = node.inputs[0]
        assert x is not None
        if len(node.inputs) < 2 or axes_along(node.inputs[1], x) != axes_along(axes, x):
            return no("not the axes that were dropped")
        return yes()

    def rewrite(self, op: Any, r: ir.Value, **_: Any) -> Any:
        node = r.producer()
        assert node is not None
        return getattr(op, node.op_type)(node.inputs[0], node.inputs[1], keepdims=1)


class _ByReciprocal(Rule):
    """e^z / sum e^z -> Softmax(z), or e^(z - log sum e^z) along several axes"""

    def check(self, context: Any, **found: Any) -> Any:
        self.along = axes_along(found["axes"], found["z"])
        if self.along is None or not attribute(found["sums"], "keepdims"):
            return no("the sum is not taken along known axes, or does not keep them")
        return yes()

    def rewrite(self, op: Any, z: ir.Value, axes: ir.Value, **_: Any) -> Any:
        if self.along and len(self.along) == 1:
            return op.Softmax(z, axis=self.along[0])
        return op.Exp(op.Sub(z, op.ReduceLogSumExp(z, axes, keepdims=1)))


class SoftmaxByDivision(_ByReciprocal):
    title = "Softmax"

    def pattern(self, op: Any, z: Any, axes: Any) -> Any:
        e = op.Exp(z)
        return op.Div(e, op.ReduceSum(e, axes, _outputs=["sums"]))


class SoftmaxByReciprocal(_ByReciprocal):
    title = "Softmax (reciprocal)"

    def pattern(self, op: Any, z: Any, axes: Any) -> Any:
        e = op.Exp(z)
        return op.Mul(e, op.Reciprocal(op.ReduceSum(e, axes, _outputs=["sums"])))


class SoftmaxWithFloor(_ByReciprocal):
    """The same with a small number beside the sum, of which one term is 1."""

    title = "Softmax (guarded)"

    def pattern(self, op: Any, z: Any, axes: Any, floor: Any) -> Any:
        e = op.Exp(z)
        return op.Div(e, op.Add(op.ReduceSum(e, axes, _outputs=["sums"]), floor))

    def check(self, context: Any, **found: Any) -> Any:
        if not 0 <= (scalar(found["floor"]) or -1.0) <= _NEGLIGIBLE or _less_maximum(found["z"]) is None:
            return no("the added term is not negligible, or the largest exponential is not 1")
        return super().check(context, **found)


def _less_maximum(z: ir.Value) -> tuple[ir.Value, ir.Value, tuple[int, ...]] | None:
    """(x, m, axes) of z = x - m with m the maximum of x along axes, which it keeps."""
    node = z.producer()
    if node is None or node.domain or node.op_type != "Sub":
        return None
    x, top = node.inputs
    assert x is not None
    made = None if top is None else top.producer()
    if made is None or made.domain or made.op_type != "ReduceMax" or made.inputs[0] is not x:
        return None
    along = axes_along(made.inputs[1] if len(made.inputs) > 1 else None, x)
    if along is None or not attribute(top, "keepdims"):
        return None
    return x, top, along


class SoftmaxOfDifferences(Rule):
    """Softmax(x - max(x)) -> Softmax(x)"""

    title = "Softmax less its maximum"

    def pattern(self, op: Any, z: Any) -> Any:
        return op.Softmax(z, _outputs=["y"])

    def check(self, context: Any, z: ir.Value, y: ir.Value, **_: Any) -> Any:
        found, extent = _less_maximum(z), rank(z)
        if found is None or extent is None:
            return no("not of scores less their maximum")
        if int(attribute(y, "axis")) % extent not in found[2]:
            return no("the maximum is not taken along the axis of the softmax")
        self.x = found[0]
        return yes()

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        return op.Softmax(self.x, axis=attribute(y, "axis"))


class LogOfSum(Rule):
    """log sum e^x, and log mean e^x -> ReduceLogSumExp(x), less log n"""

    title = "ReduceLogSumExp"

    def pattern(self, op: Any, s: Any) -> Any:
        return op.Log(s, _outputs=["y"])

    def check(self, context: Any, s: ir.Value, **_: Any) -> Any:
        node = s.producer()
        if node is None or node.domain or node.op_type not in ("ReduceSum", "ReduceMean"):
            return no("not of a sum")
        e = node.inputs[0].producer() if node.inputs[0] is not None else None
        if e is None or e.domain or e.op_type != "Exp":
            return no("not of a sum of exponentials")
        self.x, self.axes = e.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        self.count: int | None = 1
        if node.op_type == "ReduceMean":
            along = axes_along(self.axes, self.x)
            counts = [static_dim(self.x, a) for a in along or ()]
            if along is None or any(c is None for c in counts):
                return no("the number of elements in the mean is not known")
            self.count = math.prod(c for c in counts if c is not None)
        return yes()

    def rewrite(self, op: Any, s: ir.Value, **_: Any) -> Any:
        given = [self.x] if self.axes is None else [self.x, self.axes]
        made = op.ReduceLogSumExp(
            *given,
            keepdims=attribute(s, "keepdims"),
            noop_with_empty_axes=attribute(s, "noop_with_empty_axes"),
        )
        return made if self.count == 1 else op.Sub(made, number_like(op, s, math.log(self.count or 1)))


class ReducedLogOfSum(Rule):
    """ReduceLogSum(e^x) -> ReduceLogSumExp(x)"""

    title = "ReduceLogSumExp (reduced)"

    def pattern(self, op: Any, x: Any, axes: Any) -> Any:
        return op.ReduceLogSum(op.Exp(x), axes, _outputs=["y"])

    def rewrite(self, op: Any, x: ir.Value, axes: ir.Value, y: ir.Value, **_: Any) -> Any:
        return op.ReduceLogSumExp(x, axes, keepdims=attribute(y, "keepdims"))


class MaximumBeside(Rule):
    """ReduceLogSumExp(x - m) + m -> ReduceLogSumExp(x), m the maximum along the same axes"""

    title = "ReduceLogSumExp less its maximum"

    def pattern(self, op: Any, z: Any, axes: Any, m: Any) -> Any:
        return op.Add(op.ReduceLogSumExp(z, axes, _outputs=["y"]), m)

    def check(self, context: Any, z: ir.Value, axes: ir.Value, m: ir.Value, y: ir.Value, **_: Any) -> Any:
        found = _less_maximum(z)
        if found is None or found[2] != axes_along(axes, z):
            return no("not of scores less their maximum along the same axes")
        keeps = attribute(y, "keepdims")
        if (keeps and m is not found[1]) or (not keeps and not _dropped(m, found[1], found[0], found[2])):
            return no("the added term is not that maximum")
        self.x = found[0]
        return yes()

    def rewrite(self, op: Any, axes: ir.Value, y: ir.Value, **_: Any) -> Any:
        return op.ReduceLogSumExp(self.x, axes, keepdims=attribute(y, "keepdims"))


class MaximumBefore(MaximumBeside):
    """m + ReduceLogSumExp(x - m) -> ReduceLogSumExp(x)"""

    title = "ReduceLogSumExp after its maximum"

    def pattern(self, op: Any, z: Any, axes: Any, m: Any) -> Any:
        return op.Add(m, op.ReduceLogSumExp(z, axes, _outputs=["y"]))


def _dropped(m: ir.Value, top: ir.Value, x: ir.Value, along: tuple[int, ...]) -> bool:
    """Whether m is `top`, the maximum of x, with the reduced axes dropped."""
    node = m.producer()
    if node is None or node.domain or len(node.inputs) < 2:
        return False
    if node.op_type == "Squeeze":
        return node.inputs[0] is top and axes_along(node.inputs[1], x) == along
    same = node.op_type == "ReduceMax" and node.inputs[0] is x and not attribute(m, "keepdims")
    return same and axes_along(node.inputs[1], x) == along


RULES = (
    KeptAxes,
    SoftmaxByDivision,
    SoftmaxByReciprocal,
    SoftmaxWithFloor,
    SoftmaxOfDifferences,
    LogOfSum,
    ReducedLogOfSum,
    MaximumBeside,
    MaximumBefore,
)
