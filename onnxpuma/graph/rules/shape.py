"""Known dimensions become constants: Gather or Slice of Shape(x) where those dimensions of x are fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import attribute, scalar, small_array


def shape_entries(shape: ir.Value) -> list[int | None] | None:
    """The result of Shape(x), unknown dimensions as None; None when even the rank of x is unknown."""
    producer = shape.producer()
    x = None if producer is None else producer.inputs[0]
    if x is None or x.shape is None:
        return None
    dims = [d if isinstance(d, int) else None for d in x.shape]
    end = attribute(shape, "end")
    return dims[attribute(shape, "start") : len(dims) if end is None else end]


class GatheredDimension(Rule):
    """Gather(Shape(x), i) -> the number, where dimension i of x is fixed"""

    title = "fixed dimension"

    def pattern(self, op: Any, x: Any, index: Any) -> Any:
        return op.Gather(op.Shape(x, _outputs=["shape"]), index)

    def check(self, context: Any, shape: ir.Value, index: ir.Value, **_: Any) -> Any:
        entries, indices = shape_entries(shape), small_array(index)
        if entries is None or indices is None:
            return no("the rank or the index is not known")
        if not all(-len(entries) <= i < len(entries) for i in indices.flat):
            return no("the index lies outside the shape")
        if any(entries[i] is None for i in indices.flat):
            return no("the dimension is not fixed")
        return yes()

    def rewrite(self, op: Any, shape: ir.Value, index: ir.Value, **_: Any) -> Any:
        entries = shape_entries(shape) or []
        indices = np.asarray(index.const_value.numpy())
        return constant(op, np.array([entries[i] for i in indices.flat], np.int64).reshape(indices.shape))


class SlicedDimensions(Rule):
    """Slice(Shape(x), a, b) -> the numbers, where those dimensions of x are fixed"""

    title = "fixed dimensions"

    def pattern(self, op: Any, x: Any, start: Any, end: Any) -> Any:
        shape = op.Shape(x, _outputs=["shape"])
        return op.Slice(shape, start, end, _allow_other_inputs=True, _outputs=["y"])

    def check(
        self, context: Any, shape: ir.Value, start: ir.Value, end: ir.Value, y: ir.Value, **_: Any
    ) -> Any:
        found = sliced_entries(shape, start, end, y)
        if found is None or None in found:
            return no("a dimension, or an end of the slice, is not fixed")
        return yes()

    def rewrite(self, op: Any, shape: ir.Value, start: ir.Value, end: ir.Value, y: ir.Value, **_: Any) -> Any:
        return constant(op, np.array(sliced_entries(shape, start, end, y), np.int64))


class GatheredTwice(Rule):
    """Gather(Gather(shape, a), b) -> Gather(shape, a[b]), a remainder of onnxruntime's transposed shapes"""

    title = "dimension gathered twice"

    def pattern(self, op: Any, shape: Any, a: Any, b: Any) -> Any:
        return op.Gather(op.Gather(shape, a), b)

    def check(self, context: Any, shape: ir.Value, a: ir.Value, b: ir.Value, **_: Any) -> Any:
        first, second = small_array(a), small_array(b)
        producer = shape.producer()
        if producer is None or producer.op_type != "Shape" or first is None or first.ndim != 1:
            return no("not entries of a shape, picked by a constant")
        if second is None or not all(-first.size <= i < first.size for i in second.flat):
            return no("the second index is not a constant inside the first")
        return yes()

    def rewrite(self, op: Any, shape: ir.Value, a: ir.Value, b: ir.Value, **_: Any) -> Any:
        first, second = (np.asarray(i.const_value.numpy()) for i in (a, b))
        return op.Gather(shape, constant(op, first[second].astype(np.int64)))


def sliced_entries(shape: ir.Value, start: ir.Value, end: ir.Value, y: ir.Value) -> list[int | None] | None:
    entries, first, last = shape_entries(shape), scalar(start), scalar(end)
    if entries is None or first is None or last is None:
        return None
    inputs = y.producer().inputs
    if len(inputs) > 4 and inputs[4] is not None and scalar(inputs[4]) != 1.0:
        return None
    return entries[int(first) : int(last)]


RULES = (GatheredTwice, GatheredDimension, SlicedDimensions)
