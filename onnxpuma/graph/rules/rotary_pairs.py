"""Rotary position embedding of neighbours (GPT-J, Cohere) becomes RotaryEmbedding with interleaved=1.

Written out: x * cos + pairs(-x[1::2], x[0::2]) * sin, where pairs() interleaves its two arguments again and
cos and sin contain each angle twice in a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.rotary import heads_axis, rotated
from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.rules.shape_vector import dims, reshapes_to, times
from onnxpuma.graph.values import attribute, number, rank, scalar, small_array, static_dim

# Operators allowed between a table and the place where its angles were doubled; none mixes entries of the
# last axis.
_PASSING = ("Unsqueeze", "Cast", "Cos", "Sin", "Identity")


def _every_second(value: ir.Value, x: ir.Value, first: int) -> bool:
    """True when `value` is x[..., first::2]."""
    node, width = value.producer(), static_dim(x, -1)
    if node is None or node.op_type != "Slice" or node.inputs[0] is not x or len(node.inputs) < 5:
        return False
    start, end, axis, step = (scalar(v) for v in node.inputs[1:5])
    if width is None or width % 2 or start is None or end is None or step != 2.0:
        return False
    last = axis in (-1.0, (rank(x) or 0) - 1.0)
    return last and range(width)[int(start) : int(end) : 2] == range(first, width, 2)


def _is_last(axis: float | None, axes: int | None) -> bool:
    return axis is not None and (axis == -1 or axis + 1 == axes)


def _merges_last_two(y: ir.Value) -> bool:
    """True when `y` is a Reshape that makes one axis of the last two."""
    node = y.producer()
    before = None if node is None or node.inputs[0] is None else dims(node.inputs[0])
    return before is not None and len(before) > 1 and reshapes_to(y, [*before[:-2], times(*before[-2:])])


def _in_pairs(table: ir.Value) -> bool:
    """True when `table` repeats every entry of its last axis twice in a row."""
    values = small_array(table)
    if values is not None:
        return values.shape[-1] % 2 == 0 and bool(np.array_equal(values[..., ::2], values[..., 1::2]))
    node = table.producer()
    if node is None or node.domain or node.inputs[0] is None:
        return False
    if node.op_type in _PASSING:
        if node.op_type == "Unsqueeze" and _is_last(scalar(node.inputs[1]), rank(table)):
            return False
        return _in_pairs(node.inputs[0])
    if node.op_type == "Mul":
        return number(node.inputs[1]) is not None and _in_pairs(node.inputs[0])
    if node.op_type != "Reshape" or not _merges_last_two(table):
        return False
    doubled = node.inputs[0]
    copies = doubled.producer()
    if copies is None or copies.op_type not in ("Expand", "Tile") or copies.inputs[0] is None:
        return False
    return static_dim(doubled, -1) == 2 and static_dim(copies.inputs[0], -1) == 1


class Pairs(Rule):
    """x * cos + pairs(-x[1::2], x[0::2]) * sin -> RotaryEmbedding(x, cos[::2], sin[::2], interleaved=1)"""

    title = "RotaryEmbedding (interleaved)"

    def pattern(
        self, op: Any, x: Any, odd: Any, even: Any, a: Any, b: Any, shape: Any, cos: Any, sin: Any
    ) -> Any:
        pairs = op.Concat(op.Unsqueeze(op.Neg(odd), a), op.Unsqueeze(even, b), _outputs=["pairs"])
        turned = op.Reshape(pairs, shape, _outputs=["turned"])
        return op.Add(op.Mul(x, cos), op.Mul(turned, sin))

    def check(
        self,
        context: Any,
        x: ir.Value,
        odd: ir.Value,
        even: ir.Value,
        a: ir.Value,
        b: ir.Value,
        cos: ir.Value,
        sin: ir.Value,
        pairs: ir.Value,
        turned: ir.Value,
        **_: Any,
    ) -> Any:
        if any(rank(t) != 4 for t in (x, cos, sin)) or rank(pairs) != 5:
            return no("not tensors of four axes")
        if not (_every_second(odd, x, 1) and _every_second(even, x, 0)):
            return no("the rotated parts are not the odd and the even entries of the tensor")
        axes = (scalar(a), scalar(b), float(attribute(pairs, "axis")))
        if not all(_is_last(axis, 5) for axis in axes) or not _merges_last_two(turned):
            return no("the neighbours are not interleaved again")
        if heads_axis(cos, sin) is None:
            return no("the tables differ from head to head")
        if not (_in_pairs(cos) and _in_pairs(sin)):
            return no("the tables do not have each angle twice in a row")
        return yes()

    def rewrite(self, op: Any, x: ir.Value, cos: ir.Value, sin: ir.Value, **_: Any) -> Any:
        end = np.iinfo(np.int64).max
        zero, all_of, last, two = (constant(op, np.array([n], np.int64)) for n in (0, end, -1, 2))
        tables = [op.Slice(t, zero, all_of, last, two) for t in (cos, sin)]
        return rotated(op, x, tables, heads_axis(cos, sin) or 1, interleaved=1)


RULES = (Pairs,)
