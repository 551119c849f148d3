"""Keys and values repeated for groups of heads: Attention takes them once, as the standard allows.

Written out, each key head occurs r times in a row: Unsqueeze(k, 2), Expand to (batch, heads / r, r, n, size),
Reshape to (batch, heads, n, size).
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.rules.shape_vector import dims, entries, known, number, reshapes_to, times
from onnxpuma.graph.values import rank, scalar


def _unrepeated(repeated: ir.Value) -> tuple[ir.Value, int] | None:
    """(k, r) where `repeated` is k, (batch, heads, n, size), with each head r times in a row."""
    reshape = repeated.producer()
    if reshape is None or reshape.op_type != "Reshape" or rank(repeated) != 4:
        return None
    expanded = reshape.inputs[0]
    expand = None if expanded is None else expanded.producer()
    if expanded is None or expand is None or expand.op_type != "Expand" or rank(expanded) != 5:
        return None
    wide = expand.inputs[0]
    unsqueeze = None if wide is None else wide.producer()
    if (
        unsqueeze is None
        or unsqueeze.op_type != "Unsqueeze"
        or scalar(unsqueeze.inputs[1]) not in (2.0, -3.0)
    ):
        return None
    k = unsqueeze.inputs[0]
    shape = None if k is None else dims(k)
    if k is None or shape is None or len(shape) != 4:
        return None
    batch, heads, n, size = shape
    target = known(expanded, entries(expand.inputs[1]))
    times_each = target[2]
    if times_each is None or times_each[1] or times_each[0] < 1:
        return None
    if any(t not in (d, number(1)) for t, d in zip([*target[:2], *target[3:]], shape, strict=True)):
        return None
    repeats = [batch, heads, times_each, n, size]
    if not reshapes_to(repeated, [batch, times(heads, times_each), n, size], repeats):
        return None
    return k, times_each[0]


class Grouped(Rule):
    """Attention(q, repeated k, repeated v) -> Attention(q, k, v) with fewer heads in k and v"""

    title = "grouped heads"

    def pattern(self, op: Any, q: Any, k: Any, v: Any) -> Any:
        return op.Attention(q, k, v, _allow_other_inputs=True, _outputs=["y"])

    def check(self, context: Any, q: ir.Value, k: ir.Value, v: ir.Value, y: ir.Value, **_: Any) -> Any:
        if rank(q) != 4:
            return no("not tensors of four axes")
        of_k, of_v = _unrepeated(k), _unrepeated(v)
        if of_k is None or of_v is None or of_k[1] != of_v[1]:
            return no("keys and values are not repeated for groups of heads")
        self.k, self.v = of_k[0], of_v[0]
        return yes()

    def rewrite(self, op: Any, q: ir.Value, y: ir.Value, **_: Any) -> Any:
        node = y.producer()
        attributes = {a.name: a.value for a in node.attributes.values()}
        return op.Attention(q, self.k, self.v, *node.inputs[3:], **attributes)


RULES = (Grouped,)
