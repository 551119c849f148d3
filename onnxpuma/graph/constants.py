"""Every constant of a model becomes an initializer of its main graph, where it is judged; equal ones stay
apart.

A node Constant, or a constant of a branch or a body, is part of the graph that everybody sees; a check of the
initializers alone would miss it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpuma.graph.marks import is_marked, mark, mark_numbers
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.round_numbers import LARGEST_INTEGER, is_round
from onnxpuma.graph.slots import decided, expects_trained
from onnxpuma.graph.values import numbers_of
from onnxpuma.graph.visibility import even_weights
from onnxpuma.standard.operators import traits

# Shapes, axes, a choice of rows.
_LARGEST_MERGED = 16
_LARGEST_NUMBER = 1 << 20


def lift_constants(model: ir.Model) -> None:
    """Make every constant, in any branch or body, an initializer of the main graph."""
    for graph in model.graphs():
        for place, output in enumerate(graph.outputs):
            if _is_constant_of(graph, output, model.graph):
                _put_apart(graph, place)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.LiftSubgraphInitializersToMainGraphPass()(model)


def write_fills(model: ir.Model) -> None:
    """Move the number that fills a shape into a separate constant, unless an architecture would contain it:
    an attribute cannot be secret.
    """
    for graph in model.graphs():
        for node in [n for n in graph if n.op_type == "ConstantOfShape" and not n.domain]:
            filling = node.attributes.get("value")
            if filling is None or filling.is_ref() or _is_round_fill(filling.value.numpy()):
                continue
            number = ir.tensor(np.array(filling.value.numpy()).reshape(()), dtype=filling.value.dtype)
            made = ir.node("Constant", [], {"value": number}, name=f"{node.name}/number")
            made.outputs[0].name = f"{node.outputs[0].name}/number"
            made.outputs[0].type, made.outputs[0].shape = ir.TensorType(number.dtype), ir.Shape([])
            graph.insert_before(node, made)
            filled = ir.node("Expand", [made.outputs[0], node.inputs[0]], name=node.name)
            old, new = node.outputs[0], filled.outputs[0]
            new.type, new.shape = old.type, old.shape
            ir.convenience.replace_nodes_and_values(graph, node, [node], [filled], [old], [new])


def _is_round_fill(value: np.ndarray) -> bool:
    number = value.reshape(-1)[0]
    if value.dtype.kind in "iu":
        return abs(int(number)) <= LARGEST_INTEGER
    return value.dtype.kind == "b" or is_round(float(number), coarse=True)


def _is_constant_of(graph: ir.Graph, output: ir.Value, main: ir.Graph) -> bool:
    node = output.producer()
    if node is not None:
        return node.op_type == "Constant" and not node.domain
    return graph is not main and output.is_initializer()


def _put_apart(graph: ir.Graph, place: int) -> None:
    """Make the output a copy of the constant; no pass moves the constant while it is an output itself."""
    constant = graph.outputs[place]
    name = constant.name
    copy = ir.node("Identity", [constant], num_outputs=1, name=f"{name}_shown")
    shown = copy.outputs[0]
    shown.type, shown.shape = constant.type, constant.shape
    constant.name = f"{name}_constant"
    shown.name = name
    graph.append(copy)
    graph.outputs[place] = shown


def set_apart(model: ir.Model, weights: Collection[str]) -> None:
    """Mark the weights that are one number, so that no rule looks at it; and give each reader of a vector or
    of one number its own copy. Exporters merge equal ones, and a graph in which two biases are one array
    reveals that they are equal.

    weights: the initializers that are weights. Every other initializer that repeats one number is a weight
    too, if it remains unchanged.
    """
    mark_numbers(model, weights)
    named = dict.fromkeys(weights, True)
    for name in [*named, *(n for n in even_weights(to_graph(model)) if n not in named)]:
        _part(model, name, name in named)


def _part(model: ir.Model, name: str, judged: bool) -> None:
    value = model.graph.initializers.get(name)
    readers = {} if value is None else _readers(value)
    if value is None or value.is_graph_output() or len(readers) < 2 or not _is_small(value):
        return
    for number, (node, slots) in enumerate(list(readers.items())[1:], 2):
        copy = ir.Value(
            name=f"{name}/{number}", shape=value.shape, type=value.type, const_value=_again(value.const_value)
        )
        while copy.name in model.graph.initializers:
            copy.name = f"{copy.name}_"
        if judged:
            mark(copy)
        model.graph.register_initializer(copy)
        for slot in slots:
            node.replace_input_with(slot, copy)
    if judged:
        mark(value)


def _again(tensor: Any) -> ir.LazyTensor:
    """A tensor with the same numbers and another name."""
    return ir.LazyTensor(lambda: ir.tensor(numbers_of(tensor)), dtype=tensor.dtype, shape=tensor.shape)


def _readers(value: ir.Value) -> dict[ir.Node, list[int]]:
    found: dict[ir.Node, list[int]] = {}
    for node, slot in value.uses():
        if not traits(node.op_type, node.domain).of_shape:
            found.setdefault(node, []).append(slot)
    return found


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None:
        return False
    return sum(int(d) > 1 for d in tensor.shape.numpy()) < 2


class MergeStructurePass(ir.passes.InPlacePass):
    """Merge equal constants that decide shapes, axes or indices, and equal round numbers.

    All others stay separate, however small: merging two of them would reveal that they are equal.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        merged = False
        for graph in model.graphs():
            known: dict[Any, ir.Value] = {}
            for value in list(graph.initializers.values()):
                if value.is_graph_output() or value.is_graph_input() or not _is_structure(value):
                    continue
                tensor = value.const_value
                assert tensor is not None
                key = (tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes())
                kept = known.setdefault(key, value)
                if kept is not value:
                    value.replace_all_uses_with(kept)
                    graph.initializers.pop(str(value.name))
                    merged = True
        return ir.passes.PassResult(model, modified=merged)


def _is_structure(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.size > _LARGEST_MERGED or tensor.dtype == ir.DataType.STRING:
        return False
    if is_marked(value):  # by its owner's choice, for example: the other one may be public
        return False
    uses = [(use.node.op_type if not use.node.domain else "", use.idx) for use in value.uses()]
    if any(expects_trained(op, slot) for op, slot in uses):
        return False
    if uses and all(decided(op, slot) for op, slot in uses):
        return True
    if tensor.size != 1:
        return False
    number = np.asarray(tensor.numpy()).reshape(())
    if number.dtype.kind == "b":
        return True
    if number.dtype.kind in "iu":
        return number.dtype.itemsize > 2 and abs(int(number)) <= _LARGEST_NUMBER
    behind_product = len(tensor.shape) > 0 and any(op == "Add" for op, _ in uses)
    return number.dtype.kind == "f" and not behind_product and is_round(float(number), coarse=True)
