"""Operators that the standard defines only in prose, written as nodes that have kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, helper, numpy_helper

from onnxpuma.graph.model import ValueType

Shape = tuple[int, ...]
Body = Callable[["Writing", NodeProto, Sequence[Shape]], None]


class Writing:
    """The nodes of a body, in order; inputs are i0, i1 and so on, outputs o0 and so on."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def constant(self, array: Any) -> str:
        name = f"constant{len(self.nodes)}"
        self.nodes.append(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))
        )
        return name

    def node(self, op: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        name = result or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name


def written(proto: NodeProto, types: Sequence[ValueType | None], opset: int) -> FunctionProto | None:
    """The body that replaces a node with inputs of these types; None where this file has none for its
    operator.

    The node's inputs must be named i0, i1 and so on, its outputs o0 and so on, and its attributes complete.
    """
    write = _BODIES.get(proto.op_type)
    shapes = [() if kind is None else kind.shape or () for kind in types]
    if write is None:
        return None
    writing = Writing()
    write(writing, proto, [tuple(int(d) for d in shape) for shape in shapes])  # type: ignore[arg-type]
    made: FunctionProto = helper.make_function(
        "",
        proto.op_type,
        [name for name in proto.input if name],
        list(proto.output),
        writing.nodes,
        [helper.make_opsetid("", opset)],
    )
    return made


def _attribute(proto: NodeProto, name: str) -> Any:
    found = next(a for a in proto.attribute if a.name == name)
    return helper.get_attribute_value(found)


def _hardmax(w: Writing, proto: NodeProto, shapes: Sequence[Shape]) -> None:
    """One at the first of the largest elements, zero elsewhere."""
    rank = len(shapes[0])
    axis = _attribute(proto, "axis") % rank
    numbers = np.arange(shapes[0][axis]).reshape([-1 if place == axis else 1 for place in range(rank)])
    place = w.node("ArgMax", "i0", axis=axis, keepdims=1)
    hit = w.node("Equal", place, w.constant(numbers))
    w.node("Cast", hit, to=onnx.TensorProto.FLOAT, result="o0")


def _one_hot(w: Writing, proto: NodeProto, shapes: Sequence[Shape]) -> None:
    """The second of two values where an index points, the first elsewhere; a negative index counts from the
    end."""
    rank = len(shapes[0]) + 1
    axis = _attribute(proto, "axis") % rank
    depth = w.node("Cast", w.node("Reshape", "i1", w.constant(np.zeros(0, np.int64))), to=1)
    numbers = w.node("Range", w.constant(np.float32(0)), depth, w.constant(np.float32(1)))
    after = w.constant(np.arange(1, rank - axis))
    index = w.node("Unsqueeze", w.node("Cast", "i0", to=1), w.constant(np.array([axis])))
    below = w.node("Cast", w.node("Less", index, w.constant(np.float32(0))), to=1)
    index = w.node("Add", index, w.node("Mul", below, depth))
    hit = w.node("Equal", index, w.node("Unsqueeze", numbers, after))
    off, on = (w.node("Gather", "i2", w.constant(np.int64(place)), axis=0) for place in (0, 1))
    w.node("Where", hit, on, off, result="o0")


def _lp_normalisation(w: Writing, proto: NodeProto, shapes: Sequence[Shape]) -> None:
    """Rows divided by their norm.

    The 2-norm is the root of the mean square times the root of the row's length, which keeps its digits for
    short rows and for long ones. The 1-norm, of a row so normalised, lies between one and the root of the
    row's length.
    """
    rank = len(shapes[0])
    axis, last = _attribute(proto, "axis") % rank, rank - 1
    ones = _attribute(proto, "p") == 1
    length = shapes[0][axis]
    scale = w.constant(np.full(length, 1 / np.sqrt(length), np.float32))
    turn = [*(place for place in range(rank) if place != axis), axis]
    turned = axis != last
    rows = w.node("Transpose", "i0", perm=turn) if turned else "i0"
    found = w.node(
        "RMSNormalization", rows, scale, axis=-1, epsilon=0.0, result="" if ones or turned else "o0"
    )
    if ones:
        total = w.node("ReduceL1", found, w.constant(np.array([last])), keepdims=1)
        total = w.node("Max", total, w.constant(np.float32(0.5)))
        found = w.node("Div", found, total, result="" if turned else "o0")
    if turned:
        w.node("Transpose", found, perm=list(map(int, np.argsort(turn))), result="o0")


def _tensor_scatter(w: Writing, proto: NodeProto, shapes: Sequence[Shape]) -> None:
    """A cache in which new entries replace old ones, from a position on that each sequence gives."""
    past, update = shapes[0], shapes[1]
    axis = _attribute(proto, "axis") % len(past)
    room, new, batch = past[axis], update[axis], past[0]
    slots = w.constant(np.arange(room)[None])
    start = "i2" if "i2" in proto.input else w.constant(np.zeros(batch, np.int64))
    apart = w.node("Sub", slots, w.node("Reshape", start, w.constant(np.array([-1, 1]))))
    if _attribute(proto, "mode") == b"circular":
        apart = w.node("Mod", apart, w.constant(np.int64(room)))
    low = w.node("GreaterOrEqual", apart, w.constant(np.int64(0)))
    inside = w.node("And", low, w.node("Less", apart, w.constant(np.int64(new))))
    source = w.node("Where", inside, w.node("Add", apart, w.constant(np.int64(room))), slots)
    turn = [0, axis, *(place for place in range(1, len(past)) if place != axis)]
    both = w.node("Concat", *(w.node("Transpose", name, perm=turn) for name in ("i0", "i1")), axis=1)
    index = w.node("Unsqueeze", source, w.constant(np.array([2])))
    moved = w.node("GatherND", both, index, batch_dims=1)
    w.node("Transpose", moved, perm=list(map(int, np.argsort(turn))), result="o0")


_BODIES: dict[str, Body] = {
    "Hardmax": _hardmax,
    "OneHot": _one_hot,
    "LpNormalization": _lp_normalisation,
    "TensorScatter": _tensor_scatter,
}
