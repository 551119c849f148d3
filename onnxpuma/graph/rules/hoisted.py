"""Computations of weights alone move out of branches and bodies, where the owner can evaluate them.

A decoder with and without a cache is often one graph of two branches, each with its own copy of the
expressions that dequantise the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import onnx_ir as ir

from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.values import is_constant
from onnxpuma.standard.operators import traits


def hoist(model: ir.Model, secret: Callable[[Graph], Collection[str]]) -> None:
    """Move such nodes to the beginning of the main graph, with their dependencies.

    secret: which of a graph's initializers are weights; it is asked about those that such nodes read.
    """
    makers: dict[ir.Value, ir.Node] = {}
    for graph in model.graphs():
        if graph is not model.graph:
            for node in graph:
                if _of_constants(node, makers):
                    makers.update((output, node) for output in node.outputs)
    if not makers:
        return
    found = to_graph(model)
    read = {str(v.name) for n in makers.values() for v in n.inputs if is_constant(v)}
    asked = replace(found, initializers={n: i for n, i in found.initializers.items() if n in read})
    weights = set(secret(asked))
    tainted: set[ir.Node] = set()
    for node in dict.fromkeys(makers.values()):
        if any(v is not None and (v.name in weights or makers.get(v) in tainted) for v in node.inputs):
            tainted.add(node)
    _move(model.graph, [n for n in dict.fromkeys(makers.values()) if n in _needed(tainted, makers)])


def _of_constants(node: ir.Node, makers: Collection[ir.Value]) -> bool:
    found = traits(node.op_type)
    if node.domain or found.of_shape or found.random or not any(node.inputs):
        return False
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return False
    if any(output.is_graph_output() for output in node.outputs):
        return False
    return all(v is None or is_constant(v) or v in makers for v in node.inputs)


def _needed(nodes: Collection[ir.Node], makers: dict[ir.Value, ir.Node]) -> set[ir.Node]:
    """These nodes, and those that they depend on."""
    found, todo = set(nodes), list(nodes)
    while todo:
        for value in todo.pop().inputs:
            maker = makers.get(value) if value is not None else None
            if maker is not None and maker not in found:
                found.add(maker)
                todo.append(maker)
    return found


def _move(main: ir.Graph, nodes: list[ir.Node]) -> None:
    first = next(iter(main), None)
    taken = {str(v.name) for n in main for v in n.outputs} | set(main.initializers)
    taken |= {str(v.name) for v in main.inputs}
    for node in nodes:
        owner = node.graph
        assert owner is not None
        assert first is not None
        owner.remove(node)
        for output in node.outputs:
            name = str(output.name)
            while name in taken:  # branches may use the same names
                name += "_"
            output.name = name
            taken.add(name)
        main.insert_before(first, node)
