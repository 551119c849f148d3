"""A model that reads one row of its last blocks need not compute the others: the row is selected earlier.

A pooler takes the first position, a generated token follows from the last. The selection moves up through all
operators that work on each row alone (`rowwise`), past the head, the last feed-forward block and the queries
of the last attention, as far as nothing else needs the other rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rowwise import asks, row_shape, selected_row
from onnxpuma.graph.rules.fused import Writer
from onnxpuma.standard.operators import traits

TITLE = "one row computed"
CONSTANT = "onnxpuma.row."


def lift_rows(model: ir.Model) -> dict[str, int]:
    """Move every selection of a first or last row up as far as possible, in place: title -> how many nodes.

    Shapes must be inferred. Outputs of the graph may change their names. Nodes that become unused stay.
    """
    count = _Lifting(model).run()
    return {TITLE: count} if count else {}


def needed(graph: ir.Graph, outputs: Collection[ir.Value]) -> set[ir.Node]:
    """The nodes of `graph` that must run for these values; a node read for its shape alone need not."""
    found: set[ir.Node] = set()
    todo = list(outputs)
    while todo:
        node = todo.pop().producer()
        if node is None or node in found or node.graph is not graph:
            continue
        found.add(node)
        if not traits(node.op_type, node.domain).of_shape:
            todo += _read_by(node)
    return found


def _read_by(node: ir.Node) -> Iterator[ir.Value]:
    """The values that a node reads, also in the graphs inside it."""
    yield from (v for v in node.inputs if v is not None)
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        graphs = list(attribute.value) if attribute.type == ir.AttributeType.GRAPHS else graphs
        for graph in graphs:
            yield from graph.outputs
            for inner in graph:
                yield from _read_by(inner)


class _Lifting:
    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.writer = Writer(model, {})
        self.rows: dict[tuple[ir.Value, int, bool], ir.Value] = {}
        self.live: set[ir.Node] = set()
        self.taken = {str(v.name) for n in self.graph.all_nodes() for v in n.outputs}
        self.taken |= {str(v.name) for v in (*self.graph.inputs, *self.graph.initializers.values())}

    def run(self) -> int:
        count = 0
        while True:
            self.live = needed(self.graph, self.graph.outputs)
            passed = [self._pass(node) for node in reversed(list(self.graph))]
            if not any(passed):
                return count
            count += sum(passed)

    def _pass(self, selection: ir.Node) -> bool:
        """Swap a selection with the node from whose result it selects."""
        found = selected_row(selection) if selection.graph is self.graph else None
        x = selection.inputs[0] if found else None
        source = None if x is None else x.producer()
        if found is None or x is None or source is None or x.dtype != ir.DataType.FLOAT:
            return False
        axis, last, _ = found
        readers = self._readers(x, axis, last)
        asked = asks(source, axis) if readers and x is source.outputs[0] else None
        shape = None
        if asked is not None and source.op_type == "Reshape":
            shape = row_shape(source, axis)
            asked = asked if shape else None
        if asked is None or source.graph is not self.graph:
            return False
        inputs = [
            v if v is None or i not in asked else self._row(v, asked[i], last)
            for i, v in enumerate(source.inputs)
        ]
        if shape:
            inputs[1] = self._ints(*shape)
        row = self.rows[x, axis, last] = self._twin(source, inputs, axis)
        for reader in readers:
            self._replace(reader, row, axis)
        return True

    def _readers(self, x: ir.Value, axis: int, last: bool) -> list[ir.Node]:
        """The selections of this row of `x`; empty if anything needs another row."""
        found = []
        for node, slot in x.uses():
            inside = node.graph is self.graph
            if inside and (node not in self.live or traits(node.op_type, node.domain).of_shape):
                continue
            if not inside or slot or (selected_row(node) or ())[:2] != (axis, last):
                return []
            found.append(node)
        return [] if x.is_graph_output() else found

    def _row(self, x: ir.Value, axis: int, last: bool) -> ir.Value:
        """That row of `x`, keeping its axis."""
        if (x, axis, last) not in self.rows:
            index = self._ints(-1 if last else 0)
            node = ir.node("Gather", [x, index], {"axis": axis})
            self.rows[x, axis, last] = self._put(node, x, axis, x.producer(), "selected")
        return self.rows[x, axis, last]

    def _twin(self, source: ir.Node, inputs: list[ir.Value | None], axis: int) -> ir.Value:
        """A copy of the node that works on the row alone."""
        attributes = {name: a.value for name, a in source.attributes.items()}
        node = ir.node(source.op_type, inputs, attributes, domain=source.domain)
        return self._put(node, source.outputs[0], axis, source)

    def _replace(self, reader: ir.Node, row: ir.Value, axis: int) -> None:
        found, old, value = selected_row(reader), reader.outputs[0], row
        if found is not None and not found[2]:
            node = ir.node("Squeeze", [row, self._ints(axis)])
            value = self._put(node, old, None, row.producer())
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        self.graph.remove(reader, safe=True)

    def _put(
        self, node: ir.Node, like: ir.Value, axis: int | None, after: ir.Node | None, what: str = "row"
    ) -> ir.Value:
        """Insert it into the graph, as early as its inputs allow; `like`, one row of it along `axis`, is the
        result."""
        value, name = node.outputs[0], f"{like.name}/{what}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        node.name = value.name = name
        value.type = like.type
        if like.shape is not None:
            value.shape = ir.Shape([1 if place == axis else d for place, d in enumerate(like.shape)])
        self.live.add(node)
        if after is not None and after.graph is self.graph:
            self.graph.insert_after(after, node)
        else:
            self.graph.insert_before(self.graph[0], node)
        return value

    def _ints(self, *numbers: int) -> ir.Value:
        """A constant vector, created once for all its uses."""
        name = f"{CONSTANT}{'_'.join(map(str, numbers))}"
        tensor = ir.tensor(np.array(numbers, np.int64), name=name)
        return self.writer.shared(numbers, lambda: self.writer.weight(tensor, name))
