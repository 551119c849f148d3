"""A model's inputs and outputs keep their names while the graph between them is rewritten."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

_PARTED = "/output"


def part_outputs(graph: ir.Graph) -> None:
    """Insert a node between an input and the output that is the same value: a pass would rename the input."""
    for place, value in enumerate(graph.outputs):
        if value.is_graph_input():
            node = ir.node("Identity", [value])
            between = node.outputs[0]
            between.name, between.type, between.shape = f"{value.name}{_PARTED}", value.type, value.shape
            graph.append(node)
            graph.outputs[place] = between


def join_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Undo `part_outputs`; the inserted nodes are left unused."""
    inputs = {value.name: value for value in graph.inputs}
    for place, name in enumerate(names):
        if name in inputs:
            graph.outputs[place] = inputs[name]


def name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Undo the folding of an Identity before an output: the output takes the place of the value that the
    Identity read."""
    others = [*graph.initializers.values(), *(o for n in graph for o in n.outputs)]
    wrong = {value: name for value, name in zip(graph.outputs, names, strict=True) if value.name != name}
    taken = {value.name for value in others} | set(names)
    wanted = set(wrong.values())
    for number, value in enumerate(v for v in others if v in wrong or v.name in wanted):
        free = f"renamed_{number}"
        while free in taken:
            free += "_"
        value.name = free
    for value, name in wrong.items():
        value.name = name
