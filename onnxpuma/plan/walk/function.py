"""Operators without a kernel: the function by which the standard defines such an operator takes its place."""

from __future__ import annotations

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.function import function_body
from onnxpuma.graph.model import Node
from onnxpuma.plan.known.refusals import no_kernel
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import given_types
from onnxpuma.plan.walk.parts import Parts, Refused


def expanded(state: State, node: Node) -> Parts[None]:
    """The body of the operator's function. If a part of it is refused, so is the node, with that reason."""
    try:
        body = function_body(node, given_types(state.values, node), state.opset)
    except OnnxpumaError as error:  # it works on lists, for example
        raise Refused(f"{no_kernel(node)}; its function: {error.message}") from error
    before = len(state.refusals)
    yield from body
    reasons = state.refusals[before:]  # the walk planned the body in between
    if reasons or not body:
        del state.refusals[before:]
        why = f"; as the function that defines it: {reasons[0]}" if reasons else ""
        raise Refused(no_kernel(node) + why)
