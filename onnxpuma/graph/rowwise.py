"""The rows of the operands from which a row of a result follows, for operators that work on rows.

Only the first or the last row is ever selected, so broadcasting does not depend on sizes: an axis of one
element has the same first and last row as the axis that it is stretched along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_ir as ir

from onnxpuma.graph.rules.shape_vector import Entry, dims, entries, known, number, times
from onnxpuma.graph.values import attribute, rank, scalar, static_dim
from onnxpuma.standard.operators import traits
from onnxpuma.standard.traits import Rows

Asked: TypeAlias = dict[int, int]
"""Input -> the axis along which its row is selected; other inputs stay unchanged."""


def asks(node: ir.Node, axis: int) -> Asked | None:
    """The rows of the inputs from which a row of the first output along `axis` (not negative) follows.

    The node, applied to those rows, yields that row; a Reshape also needs `row_shape`. None where the row
    depends on other rows, or may.
    """
    kind = traits(node.op_type, node.domain).rows
    y = node.outputs[0]
    axes = rank(y)
    if kind is None or axes is None or any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return None
    return _RULES[kind](node, axis, axes)


def _one(node: ir.Node, axis: int, axes: int) -> Asked | None:
    return {0: axis}


def _stretched(node: ir.Node, axis: int, axes: int) -> Asked | None:
    """The row of every operand that has the axis, counted from the right."""
    found: Asked = {}
    for slot, x in enumerate(node.inputs):
        if x is None:
            continue
        own = rank(x)
        if own is None:
            return None
        place = axis - (axes - own)
        if place >= 0 and static_dim(x, place) != 1:
            found[slot] = place
    return found or None


def _product(node: ir.Node, axis: int, axes: int) -> Asked | None:
    left, right = rank(node.inputs[0]), rank(node.inputs[1])
    if left is None or right is None or left < 2 or right < 2 or axis == axes - 1:
        return None
    if axis == axes - 2:
        return {0: left - 2}
    return _stretched(node, axis, axes)


def _gemm(node: ir.Node, axis: int, axes: int) -> Asked | None:
    if axis != 0:
        return None
    found = {0: 1 if attribute(node.outputs[0], "transA") else 0}
    added = node.inputs[2] if len(node.inputs) > 2 else None
    if added is not None:
        own = rank(added)
        if own is None:
            return None
        if own == 2 and static_dim(added, 0) != 1:
            found[2] = 0
    return found


def _normalisation(node: ir.Node, axis: int, axes: int) -> Asked | None:
    first = attribute(node.outputs[0], "axis") % axes
    scales = [rank(v) for v in node.inputs[1:] if v is not None]
    reach = max((r for r in scales if r is not None), default=0)
    return {0: axis} if axis < first and None not in scales and reach <= axes - first else None


def _along(node: ir.Node, axis: int, axes: int) -> Asked | None:
    return None if attribute(node.outputs[0], "axis") % axes == axis else {0: axis}


def _transpose(node: ir.Node, axis: int, axes: int) -> Asked | None:
    perm = attribute(node.outputs[0], "perm") or tuple(range(axes))[::-1]
    return {0: int(perm[axis])}


def _concat(node: ir.Node, axis: int, axes: int) -> Asked | None:
    if attribute(node.outputs[0], "axis") % axes == axis:
        return None
    return {slot: axis for slot, x in enumerate(node.inputs) if x is not None}


def _attention(node: ir.Node, axis: int, axes: int) -> Asked | None:
    """The rows are rows of the queries; with `is_causal` the mask would move along with them."""
    y, query = node.outputs[0], node.inputs[0]
    if attribute(y, "is_causal") or rank(query) != axes or axis != axes - 2:
        return None
    if any(v is not None for v in node.inputs[4:]):
        return None
    found, mask = {0: axis}, node.inputs[3] if len(node.inputs) > 3 else None
    if mask is not None:
        own = rank(mask)
        if own is None:
            return None
        if own >= 2 and static_dim(mask, own - 2) != 1:
            found[3] = own - 2
    return found


def _rotary(node: ir.Node, axis: int, axes: int) -> Asked | None:
    if axis != axes - 2:
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return {0: axis, 3: 1}
    tables = {slot: 1 for slot in (1, 2) if static_dim(node.inputs[slot], 1) != 1}
    return {0: axis, **tables}


def _reshape(node: ir.Node, axis: int, axes: int) -> Asked | None:
    """The input must have the same axis: as many elements in front of it, and as many rows."""
    x, y = node.inputs[0], node.outputs[0]
    before, target = None if x is None else dims(x), entries(node.inputs[1])
    if before is None or target is None or len(target) != axes:
        return None
    if not attribute(y, "allowzero"):
        target = [before[i] if e == number(0) and i < len(before) else e for i, e in enumerate(target)]
    after = _completed(known(y, target), before)
    for place in range(len(before)):
        same = before[place] is not None and before[place] == after[axis]
        if same and _total(before[:place]) is not None and _total(before[:place]) == _total(after[:axis]):
            return {0: place}
    return None


def _completed(after: list[Entry], before: list[Entry]) -> list[Entry]:
    """The shape with its one open dimension, where the others determine it."""
    open_places = [i for i, e in enumerate(after) if e is None or e == number(-1)]
    if len(open_places) != 1:
        return after
    whole, rest = _total(before), _total([e for i, e in enumerate(after) if i != open_places[0]])
    if whole is None or rest is None or not rest[0] or whole[0] % rest[0]:
        return after
    names = list(whole[1])
    for name in rest[1]:
        if name not in names:
            return after
        names.remove(name)
    return [(whole[0] // rest[0], tuple(names)) if i == open_places[0] else e for i, e in enumerate(after)]


def _total(factors: list[Entry]) -> Entry:
    product = number(1)
    for factor in factors:
        product = times(product, factor)
    return product


def row_shape(node: ir.Node, axis: int) -> list[int] | None:
    """The constant shape of a Reshape of one row, where at most one other dimension is not a number."""
    found = [d if isinstance(d, int) else None for d in node.outputs[0].shape or ()]
    if axis >= len(found):
        return None
    target = entries(node.inputs[1]) or []
    for place, entry in enumerate(target):
        if found[place] is None and entry is not None and not entry[1] and entry[0] > 0:
            found[place] = entry[0]
    found[axis] = 1
    return [-1 if d is None else d for d in found] if found.count(None) <= 1 else None


def _layout(node: ir.Node, axis: int, axes: int) -> Asked | None:
    """Unsqueeze and Squeeze at known axes."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    own, values = rank(node.inputs[0]), None if given is None else given.const_value
    if own is None or values is None:
        return None
    larger = max(own, axes)
    changed = {int(a) % larger for a in values.numpy().reshape(-1)}
    kept = [a for a in range(larger) if a not in changed]
    if node.op_type == "Unsqueeze":
        return {0: kept.index(axis)} if axis in kept else None
    return {0: kept[axis]}


_RULES: dict[Rows, Callable[[ir.Node, int, int], Asked | None]] = {
    "each": _one,
    "broadcast": _stretched,
    "product": _product,
    "gemm": _gemm,
    "normalisation": _normalisation,
    "along": _along,
    "transpose": _transpose,
    "concat": _concat,
    "attention": _attention,
    "rotary": _rotary,
    "reshape": _reshape,
    "axes": _layout,
}


def selected_row(node: ir.Node) -> tuple[int, bool, bool] | None:
    """Of a Gather or Slice of one end row: (axis, whether it is the last row, whether the axis stays)."""
    if node.domain or node.op_type not in ("Gather", "Slice") or not node.inputs[0]:
        return None
    axes, y = rank(node.inputs[0]), node.outputs[0]
    if axes is None:
        return None
    if node.op_type == "Gather":
        place, kept = scalar(node.inputs[1]), rank(node.inputs[1]) == 1
        if place not in (0.0, -1.0) or rank(node.inputs[1]) not in (0, 1):
            return None
        return attribute(y, "axis") % axes, place == -1.0, kept
    first, end, axis = (scalar(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 2, 3))
    step = scalar(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else 1.0
    if axis is None or step != 1.0 or first not in (0.0, -1.0):
        return None
    last = first == -1.0
    if end != 1.0 if not last else (end is None or end < 2**31 - 1):
        return None
    return int(axis) % axes, last, True
