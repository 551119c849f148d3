"""Where a constant is used: to decide a shape or an index, as a trained parameter, or to compute with.

A constant that decides only shapes, axes, indices, sizes or branches is structure. Nodes may compute on it
along the way as long as they read no data: a threshold for data is not structure, wherever the outcome goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Literal

from onnxpuma.graph.model import Graph, Node
from onnxpuma.standard.operators import traits

Use = tuple[Node, int]
Uses = dict[str, list[Use]]
Decides = Literal["shape", "index"]

_TOWARDS_ANGLES = (
    *("Mul", "MatMul", "Einsum", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose", "Concat"),
    *("Gather", "Slice"),
)


def inner_nodes(nodes: Collection[Node]) -> Iterator[Node]:
    """All nodes; those of branches and bodies follow the node that they belong to."""
    for node in nodes:
        yield node
        for graph in node.subgraphs:
            yield from inner_nodes(graph.nodes)


class Slots:
    """The readers of each value of a graph, and the values that depend on data: on an input, or on an
    initializer named in `data`."""

    def __init__(self, graph: Graph, data: Collection[str]) -> None:
        self.uses: Uses = defaultdict(list)
        self._open: set[str] = set(graph.outputs)  # values that leave the graph or a body
        self._chosen: dict[str, list[Use]] = defaultdict(list)  # a branch's output -> its If, and place
        self._producers: dict[str, Node] = {}
        reals = [n for n, kind in graph.inputs.items() if kind.dtype.kind not in "iub"]
        self._data = self._following(graph, {*graph.inputs, *data})
        self._reals = self._following(graph, {*reals, *data})
        for node in inner_nodes(graph.nodes):
            for slot, name in enumerate(node.inputs):
                if name:
                    self.uses[name].append((node, slot))
            for body in node.subgraphs:
                self._hands_on(node, body)
        for node in graph.nodes:
            self._producers.update((output, node) for output in node.outputs)

    @staticmethod
    def _following(graph: Graph, known: set[str]) -> set[str]:
        """These values, and all that nodes compute from their numbers."""
        for node in graph.nodes:
            read = [n for n in (*node.inputs, *(c for g in node.subgraphs for c in g.captured())) if n]
            if not node.traits.of_shape and not known.isdisjoint(read):
                known.update(o for o in node.outputs if o)
        return known

    def _hands_on(self, node: Node, body: Graph) -> None:
        """Note the outputs of a node's branch or body."""
        if node.op == "If" and not node.domain:
            for place, name in enumerate(body.outputs):
                self._chosen[name].append((node, place))
        else:
            self._open.update(body.outputs)

    def _is_given(self, name: str) -> bool:
        """Whether it leaves its graph."""
        return name in self._open or name in self._chosen

    def decides(self, name: str) -> Decides | None:
        """Whether a value decides shapes or indices and nothing else; "index" where it decides both."""
        todo, seen, found = [name], {name}, set()
        while todo:
            value = todo.pop()
            used, chosen = self.uses.get(value, ()), self._chosen.get(value, ())
            if value in self._open or not (used or chosen):
                return None
            for node, place in chosen:
                output = node.outputs[place]
                if output in self._data:
                    return None
                if output and output not in seen:
                    todo.append(output)
                    seen.add(output)
            for node, slot in used:
                if node.traits.of_shape:
                    continue
                kind = None if node.domain else decided(node.op, slot)
                if kind is not None:
                    found.add(kind)
                    continue
                if not self._carries(node, slot):
                    return None
                todo += [o for o in node.outputs if o and o not in seen]
                seen.update(node.outputs)
        return "index" if "index" in found else "shape" if found else None

    def _carries(self, node: Node, slot: int) -> bool:
        """Whether a node computes on shapes and indices alone, and its outputs follow from this input."""
        carried = slot in node.traits.carries
        return carried and self._data.isdisjoint(node.outputs)

    def is_trained(self, name: str, shaped: bool) -> bool:
        """Whether a node reads it as a parameter. shaped: it has axes, like a bias after a product."""
        return any(self._is_trained_slot(node, slot, shaped) for node, slot in self.uses.get(name, ()))

    def _is_trained_slot(self, node: Node, slot: int, shaped: bool) -> bool:
        if node.domain:
            return False
        if expects_trained(node.op, slot):
            return True
        if node.op != "Add" or not shaped:
            return False
        other = self._producers.get(node.inputs[1 - slot] or "")
        while other is not None and other.traits.layout:
            other = self._producers.get(other.inputs[0] or "")
        return other is not None and other.traits.linear

    def multiplies_data(self, name: str) -> bool:
        """Whether a product, or another operator that expects a parameter, applies it to real data; not for
        values that become an angle."""
        beside = (
            other
            for node, slot in self.uses.get(name, ())
            if self._is_trained_slot(node, slot, False)
            for other in node.inputs
        )
        return any(other in self._reals and other != name for other in beside) and not self.becomes_angle(
            name
        )

    def only_in(self, name: str, places: Collection[tuple[str, int]]) -> bool:
        """Whether nodes read it in these places alone: (operator, input)."""
        used = self.uses.get(name, ())
        return bool(used) and not self._is_given(name) and all((n.op, slot) in places for n, slot in used)

    def is_compared(self, name: str) -> bool:
        """Whether each of its readers compares it for its value."""
        used = self.uses.get(name, ())
        return bool(used) and not self._is_given(name) and all(n.traits.compares for n, _ in used)

    def becomes_angle(self, name: str) -> bool:
        """Whether everything computed from it ends in Cos or Sin, by way of layout and products with
        positions alone."""
        todo, seen, ended = [name], {name}, False
        while todo:
            value = todo.pop()
            if self._is_given(value) or not self.uses.get(value):
                return False
            for node, _ in self.uses[value]:
                if node.op in ("Cos", "Sin"):
                    ended = True
                elif node.traits.of_shape:
                    continue
                elif node.op in _TOWARDS_ANGLES and not self._reads_reals(node, seen):
                    todo += [o for o in node.outputs if o not in seen]
                    seen.update(node.outputs)
                else:
                    return False
        return ended

    def _reads_reals(self, node: Node, beside: Collection[str]) -> bool:
        return any(n in self._reals and n not in beside for n in node.inputs if n)


def decided(op: str, slot: int) -> Decides | None:
    """Whether this input of a standard operator decides a shape or an index."""
    found = traits(op)
    return "shape" if slot in found.shapes else "index" if slot in found.indices else None


def expects_trained(op: str, slot: int) -> bool:
    """Whether this input of a standard operator expects a trained parameter."""
    return slot in traits(op).trained
