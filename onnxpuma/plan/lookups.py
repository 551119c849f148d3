"""Operators that look something up at the client's ids, written as a Gather along the first axis.

That is the one look-up that ids known to the client alone have (ops/gather.py): GatherND and GatherElements
count their places through the flattened table, which the client does, and RotaryEmbedding takes the rows of
its tables at the client's positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxpuma.graph.model import Node
from onnxpuma.plan.control import Walker, add_constant, add_node

Write = Callable[..., str]


def looked_up(walk: Walker, node: Node) -> bool:
    """Visit the nodes that `node` comes down to, if it looks something up at the client's ids; else False."""
    found = node.traits
    place = found.indices[0] if found.tables else len(node.inputs)
    if len(node.inputs) <= place or not node.inputs[place]:
        return False
    names = [name for name in node.inputs if name]
    if not walk.values[node.inputs[place]].client or any(walk.values[n].type.shape is None for n in names):  # type: ignore[index]
        return False
    if node.op == "Gather" and not node.attribute("axis"):
        return False
    {"Gather": _along, "GatherND": _places, "GatherElements": _elements, "RotaryEmbedding": _angles}[node.op](
        walk, node
    )
    return True


def _both(node: Node) -> tuple[str, str]:
    """The table and the indices."""
    return str(node.inputs[0]), str(node.inputs[1])


def _shape(walk: Walker, name: str) -> tuple[int, ...]:
    return tuple(int(d) for d in walk.values[name].type.shape or ())  # type: ignore[arg-type]


def _writer(walk: Walker, node: Node) -> Write:
    """write(op, *inputs, output="", **attributes) -> the name of the result; arrays become constants."""
    count = iter(range(1000))

    def write(op: str, *inputs: str | np.ndarray | Sequence[int], output: str = "", **attributes: Any) -> str:
        name = f"{node.name}/look-up {next(count)}"

        def named(value: str | np.ndarray | Sequence[int], place: int) -> str:
            if isinstance(value, str):
                return value
            return add_constant(walk, f"{name}/{place}", np.asarray(value, np.int64))

        read = [named(value, place) for place, value in enumerate(inputs)]
        add_node(walk, op, name, read, (output or name,), attributes)
        return output or name

    return write


def _from_the_start(write: Write, index: str, sizes: np.ndarray) -> str:
    """Indices without negative ones."""
    index = write("Cast", index, to=int(TensorProto.INT64))
    negative = write("Less", index, np.array(0))
    return write("Where", negative, write("Add", index, sizes), index)


def _strides(shape: Sequence[int]) -> np.ndarray:
    return np.array([int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape))], np.int64)


def _along(walk: Walker, node: Node) -> None:
    """Gather along another axis than the first."""
    write, (data, index) = _writer(walk, node), _both(node)
    shape, ids = _shape(walk, data), len(_shape(walk, index))
    axis = int(node.attribute("axis")) % len(shape)
    rest = [a for a in range(len(shape)) if a != axis]
    rows = write("Gather", write("Transpose", data, perm=[axis, *rest]), index, axis=0)  # (*ids, *rest)
    kept = [ids + k for k in range(len(rest))]
    write("Transpose", rows, perm=[*kept[:axis], *range(ids), *kept[axis:]], output=node.outputs[0])


def _places(walk: Walker, node: Node) -> None:
    """GatherND: each row of indices is a place in the first axes after those of the batch."""
    write, (data, index) = _writer(walk, node), _both(node)
    shape, where = _shape(walk, data), _shape(walk, index)
    batch = int(node.attribute("batch_dims"))
    end = batch + where[-1]
    sizes = shape[batch:end]
    whole = _from_the_start(write, index, np.array(sizes))
    flat = write("ReduceSum", write("Mul", whole, _strides(sizes)), [-1], keepdims=0)
    if batch:
        first = np.arange(int(np.prod(shape[:batch]))) * int(np.prod(sizes))
        wide = first.reshape(*shape[:batch], *([1] * (len(where) - 1 - batch)))
        flat = write("Add", flat, wide)
    table = write("Reshape", data, [int(np.prod(shape[:end])), *shape[end:]])
    write("Gather", table, flat, axis=0, output=node.outputs[0])


def _elements(walk: Walker, node: Node) -> None:
    """GatherElements: each index moves along one axis, at its own place in the others."""
    write, (data, index) = _writer(walk, node), _both(node)
    shape, where = _shape(walk, data), _shape(walk, index)
    axis = int(node.attribute("axis")) % len(shape)
    strides = _strides(shape)
    steps = [grid * strides[a] for a, grid in enumerate(np.indices(where)) if a != axis]
    others = sum(steps, np.zeros(where, np.int64))
    whole = _from_the_start(write, index, np.array(shape[axis]))
    flat = write("Add", write("Mul", whole, strides[axis]), others)
    write("Gather", write("Reshape", data, [-1]), flat, axis=0, output=node.outputs[0])


def _angles(walk: Walker, node: Node) -> None:
    """RotaryEmbedding: the rows of its tables at the positions, which the client has or looks up."""
    write = _writer(walk, node)
    tables = [write("Gather", node.inputs[place], node.inputs[3], axis=0) for place in (1, 2)]
    write(node.op, node.inputs[0], *tables, output=node.outputs[0], **node.attributes)
