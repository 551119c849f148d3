"""Look-ups at the client's ids, rewritten as a Gather along the first axis.

Only that Gather looks up ids that the client alone knows (ops/gather.py). GatherND and GatherElements become
look-ups in the flattened table, whose indices the client computes. RotaryEmbedding takes the rows of its
tables at the client's positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.graph.protobuf import element_type
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.walk.parts import Parts, add_constant, part


def looks_up_ids(node: Node, values: Mapping[str, Known]) -> bool:
    """Whether a node looks up anything other than rows at the client's ids."""
    traits = node.traits
    place = traits.indices[0] if traits.tables else len(node.inputs)
    if len(node.inputs) <= place or not node.inputs[place]:
        return False
    names = [name for name in node.inputs if name]
    if not values[node.inputs[place]].client or any(values[n].type.shape is None for n in names):  # type: ignore[index]
        return False
    return node.op != "Gather" or bool(node.attribute("axis"))


def looked_up(state: State, node: Node) -> Parts[None]:
    """The nodes that take the place of such a look-up."""
    written = _Written(state, node)
    _WRITE[node.op](written)
    yield from written.nodes


class _Written:
    """The nodes that replace one look-up, in their order, and the operands of the original."""

    def __init__(self, state: State, node: Node) -> None:
        self.node, self.nodes = node, list[Node]()
        self._state = state

    def __call__(
        self, op: str, *inputs: str | np.ndarray | Sequence[int], output: str = "", **attributes: Any
    ) -> str:
        """Add a node; the name of its result. Arrays become constants."""
        name = f"{self.node.name}/look-up {len(self.nodes)}"
        read = [
            value
            if isinstance(value, str)
            else add_constant(self._state, f"{name}/{place}", np.asarray(value, np.int64))
            for place, value in enumerate(inputs)
        ]
        self.nodes.append(part(self._state, op, name, read, (output or name,), attributes))
        return output or name

    def input(self, place: int) -> str:
        return str(self.node.inputs[place])

    def shape(self, place: int) -> tuple[int, ...]:
        return self._state.values[self.input(place)].shape


def _from_the_start(write: _Written, index: str, sizes: np.ndarray) -> str:
    """Indices without negative ones."""
    index = write("Cast", index, to=element_type(np.dtype(np.int64)))
    negative = write("Less", index, np.array(0))
    return write("Where", negative, write("Add", index, sizes), index)


def _strides(shape: Sequence[int]) -> np.ndarray:
    return np.array([int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape))], np.int64)


def _along(write: _Written) -> None:
    """Gather along another axis than the first."""
    shape, ids = write.shape(0), len(write.shape(1))
    axis = int(write.node.attribute("axis")) % len(shape)
    rest = [a for a in range(len(shape)) if a != axis]
    table = write("Transpose", write.input(0), perm=[axis, *rest])
    rows = write("Gather", table, write.input(1), axis=0)  # (*ids, *rest)
    kept = [ids + k for k in range(len(rest))]
    write("Transpose", rows, perm=[*kept[:axis], *range(ids), *kept[axis:]], output=write.node.outputs[0])


def _places(write: _Written) -> None:
    """GatherND: each row of indices is a place in the first axes after those of the batch."""
    shape, where = write.shape(0), write.shape(1)
    batch = int(write.node.attribute("batch_dims"))
    end = batch + where[-1]
    sizes = shape[batch:end]
    whole = _from_the_start(write, write.input(1), np.array(sizes))
    flat = write("ReduceSum", write("Mul", whole, _strides(sizes)), [-1], keepdims=0)
    if batch:
        first = np.arange(int(np.prod(shape[:batch]))) * int(np.prod(sizes))
        wide = first.reshape(*shape[:batch], *([1] * (len(where) - 1 - batch)))
        flat = write("Add", flat, wide)
    table = write("Reshape", write.input(0), [int(np.prod(shape[:end])), *shape[end:]])
    write("Gather", table, flat, axis=0, output=write.node.outputs[0])


def _elements(write: _Written) -> None:
    """GatherElements: each index moves along one axis, at its own place in the others."""
    shape, where = write.shape(0), write.shape(1)
    axis = int(write.node.attribute("axis")) % len(shape)
    strides = _strides(shape)
    steps = [grid * strides[a] for a, grid in enumerate(np.indices(where)) if a != axis]
    others = sum(steps, np.zeros(where, np.int64))
    whole = _from_the_start(write, write.input(1), np.array(shape[axis]))
    flat = write("Add", write("Mul", whole, strides[axis]), others)
    table = write("Reshape", write.input(0), [-1])
    write("Gather", table, flat, axis=0, output=write.node.outputs[0])


def _angles(write: _Written) -> None:
    """RotaryEmbedding: the rows of its tables at the positions, which the client has or looks up."""
    node = write.node
    tables = [write("Gather", write.input(place), write.input(3), axis=0) for place in (1, 2)]
    write(node.op, write.input(0), *tables, output=node.outputs[0], **node.attributes)


_WRITE: dict[str, Callable[[_Written], None]] = {
    "Gather": _along,
    "GatherND": _places,
    "GatherElements": _elements,
    "RotaryEmbedding": _angles,
}
