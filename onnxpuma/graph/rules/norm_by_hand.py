"""Values divided by their own root mean square, written out along any axes, become a normalisation.

x / sqrt(a mean(x^2) + eps), with x less its mean or not, the mean written as a sum, a sum of squares or a
length, the variance as that of a sample, or as E[x^2] - E[x]^2; x / |x| with a floor beneath |x|. A single
operator keeps the digits that a small variance would lose on its way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.log_sum import axes_along, number_like
from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import attribute, is_float, made_by, rank, scalar, static_dim

_FLOOR = 2e-6  # of a root: a larger floor fits into a sum, and counts there
LEAST = 1e-9  # of a variance, likewise
_UNSEEN = 1e-10  # an epsilon below the digits that a row has left


@dataclass(frozen=True)
class Root:
    """sqrt(share mean(d^2) + epsilon) along axes."""

    along: tuple[int, ...]
    share: float
    epsilon: float = 0.0
    summed: bool = False  # the root of a sum, over a number of elements that is not known yet
    dropped: bool = False  # the reduction drops its axes
    moved: bool = False  # it was reshaped on its way

    @property
    def fits(self) -> bool:
        """Whether it broadcasts with d element by element."""
        return not self.dropped or self.along == tuple(range(len(self.along)))

    def stands(self, value: ir.Value, d: ir.Value) -> bool:
        """Whether `value`, which is this root, broadcasts with d element by element; by its shape where it
        was reshaped."""
        if not self.moved:
            return self.fits
        if value.shape is None or d.shape is None or not all(isinstance(n, int) for n in d.shape):
            return False
        kept = [1 if a in self.along else n for a, n in enumerate(d.shape)]
        return list(value.shape) in (kept, list(d.shape))


def _reduced(value: ir.Value, x: ir.Value, node: ir.Node, mean: bool = False) -> Root | None:
    """The root mean square that a sum over d^2, or its root, amounts to."""
    along = axes_along(node.inputs[1] if len(node.inputs) > 1 else None, x)
    if not along:
        return None
    dropped, count = not attribute(value, "keepdims"), 1 if mean else _extent(x, along)
    return Root(along, float(count or 1), summed=count is None, dropped=dropped)


def _extent(x: ir.Value, along: tuple[int, ...]) -> int | None:
    dims = [static_dim(x, a) for a in along]
    return None if any(d is None for d in dims) else math.prod(d for d in dims if d is not None)


def _same(a: ir.Value | None, b: ir.Value) -> bool:
    """Whether two values are the same, or the same less its mean in two spellings."""
    if a is None or a is b:
        return a is b
    one, other = less_mean(a), less_mean(b)
    return one is not None and other is not None and one[0] is other[0] and one[2] == other[2]


def _before(value: ir.Value | None) -> ir.Value | None:
    """The value before a change of shape; None where there was none."""
    node = made_by(value, "Reshape", "Unsqueeze", "Expand")
    return None if node is None else node.inputs[0]


def _squares(value: ir.Value | None, d: ir.Value) -> Root | None:
    """`value` as share times the mean of d^2."""
    if (node := made_by(value, "Mul")) is not None and (factor := scalar(node.inputs[1])) is not None:
        inner = _squares(node.inputs[0], d)
        return None if inner is None or factor <= 0 else replace(inner, share=inner.share * factor)
    node = made_by(value, "ReduceMean", "ReduceSum", "ReduceSumSquare")
    if node is None or value is None:
        return None
    square = node.inputs[0]
    if node.op_type != "ReduceSumSquare":
        product = made_by(square, "Mul")
        if product is None or product.inputs[0] is not product.inputs[1]:
            return None
        square = product.inputs[0]
    size = made_by(square, "Abs")
    if not _same(square if size is None else size.inputs[0], d):
        return None
    return _reduced(value, d, node, node.op_type == "ReduceMean")


def _difference(value: ir.Value | None, d: ir.Value) -> Root | None:
    """`value` as the mean of x^2 less the square of the mean of x, where d is x less its mean."""
    less, found = made_by(value, "Sub"), less_mean(d)
    if less is None or found is None:
        if (node := made_by(value, "Mul")) is not None and (factor := scalar(node.inputs[1])) is not None:
            inner = _difference(node.inputs[0], d)
            return None if inner is None or factor <= 0 else replace(inner, share=inner.share * factor)
        return None
    x, mean, along = found
    squares, square = _squares(less.inputs[0], x), made_by(less.inputs[1], "Mul")
    if squares is None or square is None or squares.share != 1 or squares.along != along:
        return None
    return squares if square.inputs[0] is mean and square.inputs[1] is mean else None


def _variance(value: ir.Value | None, d: ir.Value) -> Root | None:
    """`value` as share times the mean of d^2 and an epsilon, or with a negligible floor."""
    if (node := made_by(value, "Add")) is not None and (added := scalar(node.inputs[1])) is not None:
        inner = _variance(node.inputs[0], d)
        return None if inner is None or added < 0 else replace(inner, epsilon=inner.epsilon + added)
    if (before := _before(value)) is not None:
        inner = _variance(before, d)
        return None if inner is None else replace(inner, moved=True)
    x, floor = floored(value)
    if x is not None and floor <= LEAST:
        return _variance(x, d)
    return _squares(value, d) or _difference(value, d)


def floored(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """(x, floor) of max(x, floor), in any spelling."""
    node = made_by(value, "Max", "Clip", "Relu")
    if node is None:
        return None, 0.0
    if node.op_type == "Relu":
        return node.inputs[0], 0.0
    x, *ends = node.inputs
    if node.op_type == "Max" and len(ends) == 1 and scalar(x) is not None:
        x, ends = ends[0], [x]
    if not ends or scalar(ends[0]) is None or any(e is not None for e in ends[1:]):
        return None, 0.0
    return x, float(scalar(ends[0]) or 0.0)


def root_of(value: ir.Value | None, d: ir.Value) -> Root | None:
    """`value` as a root mean square of d, None if it is none."""
    if (node := made_by(value, "Sqrt")) is not None:
        return _variance(node.inputs[0], d)
    if (node := made_by(value, "ReduceL2")) is not None and node.inputs[0] is d and value is not None:
        return _reduced(value, d, node)
    if (node := made_by(value, "Mul")) is not None and (factor := scalar(node.inputs[1])) is not None:
        inner = root_of(node.inputs[0], d)
        if inner is None or factor <= 0:
            return None
        return replace(inner, share=inner.share * factor**2, epsilon=inner.epsilon * factor**2)
    if (node := made_by(value, "Add")) is not None:
        added = scalar(node.inputs[1])
        return root_of(node.inputs[0], d) if added is not None and 0 <= added <= _FLOOR else None
    if (before := _before(value)) is not None:
        inner = root_of(before, d)
        return None if inner is None else replace(inner, moved=True)
    x, floor = floored(value)
    return root_of(x, d) if x is not None and floor <= _FLOOR else None


def less_mean(d: ir.Value) -> tuple[ir.Value, ir.Value, tuple[int, ...]] | None:
    """(x, mean, axes) of d = x - mean(x)."""
    less = made_by(d, "Sub")
    mean = None if less is None else less.inputs[1]
    node = made_by(mean, "ReduceMean")
    if less is None or mean is None or node is None or node.inputs[0] is not less.inputs[0]:
        return None
    x = less.inputs[0]
    found = None if x is None else _reduced(mean, x, node, True)
    return (x, mean, found.along) if x is not None and found is not None and found.fits else None


class _Norm(Rule):
    def check(self, context: Any, d: ir.Value, root: ir.Value, **_: Any) -> Any:
        found = root_of(root, d)
        if found is None or not found.stands(root, d) or not is_float(d):
            return no("not divided by its own root mean square")
        if found.summed and found.epsilon > found.share * _UNSEEN:
            return no("the number of elements in the sum is not known, and epsilon counts")
        centred = less_mean(d)
        self.x = centred[0] if centred is not None and centred[2] == found.along else d
        self.centred, self.found = self.x is not d, found
        return yes()

    def rewrite(self, op: Any, d: ir.Value, **_: Any) -> Any:
        along, extent = self.found.along, rank(d) or 0
        order = [*(a for a in range(extent) if a not in along), *along]
        moved = order != list(range(extent))
        x = op.Transpose(self.x, perm=order) if moved else self.x
        start = extent - len(along)
        scale = self._scale(op, d, x, start)
        norm = op.LayerNormalization if self.centred else op.RMSNormalization
        y = norm(x, scale, axis=start - extent, epsilon=self.found.epsilon / self.found.share)
        return op.Transpose(y, perm=[int(p) for p in np.argsort(order)]) if moved else y

    def _scale(self, op: Any, d: ir.Value, x: Any, start: int) -> Any:
        """The factor still missing from the normalised value, in the shape of the normalised axes."""
        sizes = [static_dim(d, a) for a in self.found.along]
        gain = 1 / math.sqrt(self.found.share)
        if all(n is not None for n in sizes):
            return number_like(op, d, np.full([n for n in sizes if n is not None], gain))
        shape, made = op.Shape(x, start=start), number_like(op, d, np.asarray(gain))
        if self.found.summed:
            count = op.Cast(op.ReduceProd(shape, keepdims=0), to=d.dtype)
            made = op.Mul(op.Reciprocal(op.Sqrt(count)), made)
        return op.Expand(made, shape)


class ByReciprocal(_Norm):
    """x * Reciprocal(root(x)) -> a normalisation"""

    title = "normalisation by hand"

    def pattern(self, op: Any, d: Any, root: Any) -> Any:
        return op.Mul(d, op.Reciprocal(root))


class ByQuotient(_Norm):
    """x / root(x) -> a normalisation"""

    title = "normalisation by hand (quotient)"

    def pattern(self, op: Any, d: Any, root: Any) -> Any:
        return op.Div(d, root)


RULES = (ByReciprocal, ByQuotient)
