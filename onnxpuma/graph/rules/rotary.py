"""Rotary position embedding written out becomes RotaryEmbedding, and its tables get the batch of the tensor
they rotate.

Written out: x * cos + concat(-x2, x1) * sin, where x1 and x2 are the halves of x along its last axis, and cos
and sin contain each angle twice, once for each half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.values import attribute, number, rank, scalar, small_array, static_dim

# Operators allowed between a table and the concatenation that doubled it; none mixes entries of the last
# axis.
_PASSING = ("Unsqueeze", "Cast", "Cos", "Sin", "Identity", "Expand")


def _half(value: ir.Value, x: ir.Value, first: bool) -> bool:
    """True when `value` is the first or second half of `x` along the last axis."""
    node, width = value.producer(), static_dim(x, -1)
    if node is None or not node.inputs or node.inputs[0] is not x or width is None or width % 2:
        return False
    if node.op_type == "Split":
        last = attribute(value, "axis") in (-1, (rank(x) or 0) - 1)
        halves = [static_dim(o, -1) for o in node.outputs] == [width // 2] * 2
        return last and halves and value is node.outputs[0 if first else 1]
    if node.op_type != "Slice" or len(node.inputs) < 4:
        return False
    start, end, axis_value = (scalar(v) for v in node.inputs[1:4])
    step = scalar(node.inputs[4]) if len(node.inputs) > 4 else 1.0
    if start is None or end is None or axis_value not in (-1.0, (rank(x) or 0) - 1.0) or step != 1.0:
        return False
    bounds = (range(width)[int(start) : int(end)]).start, (range(width)[int(start) : int(end)]).stop
    return bounds == ((0, width // 2) if first else (width // 2, width))


def _is_doubled(table: ir.Value) -> bool:
    """True when the two halves of `table` along its last axis are equal."""
    values = small_array(table)
    if values is not None:
        half = values.shape[-1] // 2
        return values.shape[-1] == 2 * half and bool(np.array_equal(values[..., :half], values[..., half:]))
    node = table.producer()
    if node is None:
        return False
    if node.op_type == "Concat":
        axis = attribute(table, "axis")
        return (
            len(node.inputs) == 2
            and node.inputs[0] is node.inputs[1]
            and axis in (-1, (rank(table) or 0) - 1)
        )
    if node.op_type in _PASSING:
        if node.op_type == "Unsqueeze" and scalar(node.inputs[1]) in (-1.0, (rank(table) or 0) - 1.0):
            return False
        return node.inputs[0] is not None and _is_doubled(node.inputs[0])
    if node.op_type == "Mul":  # a constant factor (YaRN's attention factor) on the table
        return number(node.inputs[1]) is not None and _is_doubled(node.inputs[0])
    return False


def heads_axis(cos: ir.Value, sin: ir.Value) -> int | None:
    """The axis of the heads, 1 or 2: the one along which the tables have a single entry."""
    for axis in (1, 2):
        if static_dim(cos, axis) == 1 and static_dim(sin, axis) == 1:
            return axis
    return None


def rotated(op: Any, x: ir.Value, tables: list[ir.Value], heads: int, interleaved: int) -> ir.Value:
    """RotaryEmbedding of `x`, whose heads are axis 1 or 2; tables of half the angles, four axes."""
    axis = constant(op, np.array([heads], np.int64))
    if heads == 2:
        x = op.Transpose(x, perm=[0, 2, 1, 3])
    halves = [_with_batch(op, op.Squeeze(t, axis), x) for t in tables]
    y: ir.Value = op.RotaryEmbedding(x, *halves, interleaved=interleaved)
    return op.Transpose(y, perm=[0, 2, 1, 3]) if heads == 2 else y


def _with_batch(op: Any, table: ir.Value, x: ir.Value) -> ir.Value:
    """The table (1 or batch, sequence, half) repeated for each element of the batch of `x`."""
    batch = op.Concat(op.Shape(x, start=0, end=1), constant(op, np.array([1, 1], np.int64)), axis=0)
    return op.Expand(table, batch)


class WrittenOut(Rule):
    """x * cos + concat(-x2, x1) * sin -> RotaryEmbedding(x, half of cos, half of sin)"""

    title = "RotaryEmbedding"

    def pattern(self, op: Any, x: Any, x1: Any, x2: Any, cos: Any, sin: Any) -> Any:
        turned = op.Concat(op.Neg(x2), x1, _outputs=["turned"])
        return op.Add(op.Mul(x, cos), op.Mul(turned, sin))

    def check(
        self,
        context: Any,
        x: ir.Value,
        x1: ir.Value,
        x2: ir.Value,
        cos: ir.Value,
        sin: ir.Value,
        turned: ir.Value,
        **_: Any,
    ) -> Any:
        if rank(x) != 4 or rank(cos) != 4 or rank(sin) != 4:
            return no("not tensors of four axes")
        if attribute(turned, "axis") not in (-1, 3):
            return no("the halves are not joined along the last axis")
        if not (_half(x1, x, first=True) and _half(x2, x, first=False)):
            return no("the rotated parts are not the halves of the tensor")
        if heads_axis(cos, sin) is None:
            return no("the tables differ from head to head")
        return (
            yes() if _is_doubled(cos) and _is_doubled(sin) else no("the tables do not have each angle twice")
        )

    def rewrite(self, op: Any, x: ir.Value, cos: ir.Value, sin: ir.Value, **_: Any) -> Any:
        half = static_dim(x, -1) // 2  # type: ignore[operator]
        zero, middle, last = (constant(op, np.array([n], np.int64)) for n in (0, half, -1))
        tables = [op.Slice(t, zero, middle, last) for t in (cos, sin)]
        return rotated(op, x, tables, heads_axis(cos, sin) or 1, interleaved=0)


class TableBatch(Rule):
    """RotaryEmbedding(x, cos, sin) with tables of batch 1: repeat them, as the standard requires x's batch"""

    title = "RotaryEmbedding tables repeated"

    def pattern(self, op: Any, x: Any, cos: Any, sin: Any) -> Any:
        return op.RotaryEmbedding(x, cos, sin, _outputs=["y"])

    def check(self, context: Any, x: ir.Value, cos: ir.Value, sin: ir.Value, **_: Any) -> Any:
        if rank(cos) != 3 or static_dim(cos, 0) != 1 or static_dim(sin, 0) != 1:
            return no("the tables have a batch")
        return yes() if static_dim(x, 0) != 1 else no("the batch is one")

    def rewrite(self, op: Any, x: ir.Value, cos: ir.Value, sin: ir.Value, y: ir.Value, **_: Any) -> Any:
        attributes = {a.name: a.value for a in y.producer().attributes.values()}
        return op.RotaryEmbedding(x, *(_with_batch(op, t, x) for t in (cos, sin)), **attributes)


RULES = (WrittenOut, TableBatch)
