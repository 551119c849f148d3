"""Roots of sums of squares, written out, become ReduceL2, which squares and sums without losing a digit.

sqrt(a mean(d^2) + eps) = sqrt(a / n) |d|, where an epsilon that counts becomes one more element beside d.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.log_sum import number_like
from onnxpuma.graph.rules.norm_by_hand import LEAST, Root, floored, root_of
from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import is_float, rank, scalar, static_dim

_UNSEEN = 1e-11  # a variance whose root is less than a unit


def _of_what(value: ir.Value | None) -> ir.Value | None:
    """The tensor that is squared and summed in `value`, below numbers that are added to it or multiply it."""
    node = None if value is None else value.producer()
    if node is None or node.domain:
        return None
    if node.op_type in ("Add", "Mul") and scalar(node.inputs[1]) is not None:
        return _of_what(node.inputs[0])
    if node.op_type in ("Reshape", "Unsqueeze", "Expand"):
        return _of_what(node.inputs[0])
    x, floor = floored(value)
    if x is not None and floor <= LEAST:
        return _of_what(x)
    if node.op_type == "ReduceSumSquare":
        return node.inputs[0]
    if node.op_type in ("ReduceMean", "ReduceSum"):
        product = None if node.inputs[0] is None else node.inputs[0].producer()
        if product is not None and product.op_type == "Mul" and product.inputs[0] is product.inputs[1]:
            return product.inputs[0]
    return None


def _as_many(y: ir.Value, d: ir.Value, found: Root) -> bool:
    """Whether y has one element for each row of d, as far as shapes are known."""
    shapes = [y.shape, d.shape]
    if any(s is None or not all(isinstance(n, int) for n in s) for s in shapes):
        return False
    rows = [int(n) for a, n in enumerate(d.shape or ()) if a not in found.along]
    return math.prod(int(n) for n in y.shape or ()) == math.prod(rows)


class Length(Rule):
    """Sqrt(a mean(d^2) + eps) -> ReduceL2(d) * sqrt(a / n)"""

    title = "root of a sum of squares"

    def pattern(self, op: Any, v: Any) -> Any:
        return op.Sqrt(v, _outputs=["y"])

    def check(self, context: Any, v: ir.Value, y: ir.Value, **_: Any) -> Any:
        d = _of_what(v)
        found = None if d is None else root_of(y, d)
        if d is None or found is None or not is_float(d):
            return no("not of a sum of squares")
        if found.moved and not _as_many(y, d, found):
            return no("it is repeated, or put into a shape that is not known")
        sizes = [static_dim(d, a) for a in found.along]
        self.count = None if any(n is None for n in sizes) else math.prod(n for n in sizes if n is not None)
        self.extra = found.epsilon > _UNSEEN
        if self.extra and (len(found.along) > 1 or (self.count is None and not found.summed)):
            return no("there is no place for an epsilon")
        self.d, self.found = d, found
        return yes()

    def rewrite(self, op: Any, y: ir.Value, **_: Any) -> Any:
        d, found, extent = self.d, self.found, rank(self.d) or 0
        inside: Any = d
        if self.extra:  # sqrt(sum d^2 + eps n / a) is the length of d and one element more
            axis = found.along[0]
            pads = np.zeros(2 * extent, np.int64)
            pads[extent + axis] = 1
            more = math.sqrt(found.epsilon * (self.count or 1) / found.share)
            inside = op.Pad(d, op.Constant(value=ir.tensor(pads)), number_like(op, y, np.asarray(more)))
        axes = op.Constant(value=ir.tensor(np.array(found.along, np.int64)))
        length = op.ReduceL2(inside, axes, keepdims=0 if found.dropped else 1)
        length = self._scaled(op, length, y, found)
        if not found.moved:
            return length
        return op.Reshape(length, op.Constant(value=ir.tensor(np.array(list(y.shape or ()), np.int64))))

    def _scaled(self, op: Any, length: Any, y: ir.Value, found: Root) -> Any:
        if found.summed or self.count is not None:
            factor = math.sqrt(found.share / (1 if found.summed else self.count or 1))
            return op.Mul(length, number_like(op, y, np.asarray(factor))) if factor != 1 else length
        sizes = op.Gather(op.Shape(self.d), op.Constant(value=ir.tensor(np.array(found.along, np.int64))))
        count = op.Cast(op.ReduceProd(sizes, keepdims=0), to=y.dtype)
        share = number_like(op, y, np.asarray(math.sqrt(found.share)))
        return op.Mul(length, op.Mul(op.Reciprocal(op.Sqrt(count)), share))


RULES = (Length,)
