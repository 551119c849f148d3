"""The types of a node's outputs, from the types of its inputs and the public values among them."""

from __future__ import annotations

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.infer import infer_node, misfit
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.graph.run import run_node
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import given_types


def inferred(state: State, node: Node) -> list[ValueType]:
    """The types as ONNX infers them. Raises OnnxpumaError where it does not."""
    values = [None if n is None else state.values[n].value for n in node.inputs]
    return infer_node(node, given_types(state.values, node), values, state.opset)


def found_types(state: State, node: Node) -> list[ValueType]:
    """The types of a step's outputs: inferred, or found by running the node on zeros.

    A run on zeros shows the shapes, because no shape that a kernel returns depends on secret values. Raises
    OnnxpumaError where it fails as well.
    """
    try:
        return inferred(state, node)
    except OnnxpumaError as error:
        given = given_types(state.values, node)
        state.budget.before_secret(node, given, filter(None, given))
        inputs = [None if n is None else state.values[n].sample() for n in node.inputs]
        try:
            found = [ValueType(v.dtype, v.shape) for v in run_node(node, inputs, state.opset)]
        except OnnxpumaError:
            raise error from None
        if misfit(node, given, found):
            raise
        return found
