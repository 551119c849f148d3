"""Remove each Identity that nothing needs: its readers read its input instead."""

from __future__ import annotations

import onnx_ir as ir


def drop_identities(model: ir.Model) -> None:
    """Remove them in place, except those that pass on, as a result of a graph, a value that is not that
    graph's own: an input, an initializer, a value of the graph around a branch, a result that already has a
    name."""
    for node in list(model.graph.all_nodes()):
        if node.op_type == "Identity" and not node.domain and len(node.inputs) == len(node.outputs) == 1:
            _drop(node)


def _drop(node: ir.Node) -> None:
    given, result, graph = node.inputs[0], node.outputs[0], node.graph
    if given is None or graph is None:
        return
    if result.is_graph_output():
        maker = given.producer()
        if maker is None or maker.graph is not graph or given.is_graph_output():
            return
        given.name = result.name
    if given.type is None:
        given.type = result.type
    if given.shape is None or (result.shape is not None and _known(result.shape) > _known(given.shape)):
        given.shape = result.shape
    ir.convenience.replace_all_uses_with(result, given, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _known(shape: ir.Shape) -> int:
    return sum(isinstance(dimension, int) for dimension in shape)
