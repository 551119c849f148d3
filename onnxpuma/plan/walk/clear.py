"""Nodes that need no step: public ones, which run while the plan is made, and the client's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.graph.run import run_node
from onnxpuma.plan.bounds.ranges import at_client
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.walk.control import unrolled
from onnxpuma.plan.walk.parts import Parts, Refused
from onnxpuma.plan.walk.types import inferred


def run_public(state: State, node: Node) -> Parts[None]:
    """Run a node now, within the budget, through onnxruntime."""
    inputs, constant = _inputs(state, node)
    state.budget.before_public(node, inputs, lambda: inferred(state, node))
    captured = (
        {n: k.value for n, k in state.values.items() if k.value is not None} if node.subgraphs else None
    )
    try:
        values = run_node(node, inputs, state.opset, captured)
    except OnnxpumaError as error:
        raise Refused(error.message, sizes=True) from error
    for name, value in zip(node.outputs, map(np.asarray, values), strict=True):
        if name:
            state.values[name] = Known(ValueType(value.dtype, value.shape), value, constant=constant)
            state.budget.take_public(node.name, value.nbytes)
    yield from ()


def _inputs(state: State, node: Node) -> tuple[Sequence[np.ndarray | None], bool]:
    """The arrays that the node runs on, and whether the result is the same for every request."""
    known = [state.values[name] for name in node.reads]
    constant = all(k.constant for k in known)
    if node.traits.of_shape:  # the input may be secret: any array of its shape serves
        return [np.broadcast_to(np.float32(0), known[0].shape)], constant
    if node.op == "CastLike" and known[0].value is not None:  # the second input gives its type alone
        return [known[0].value, np.zeros(0, known[1].type.dtype)], known[0].constant
    return [state.values[n].value if n else None for n in node.inputs], constant


def leave_to_client(state: State, node: Node) -> Parts[None]:
    """Have the client compute a node.

    Control flow whose shapes ONNX does not infer is unrolled instead: the shapes inside the branch, or inside
    each iteration, can be inferred.
    """
    try:
        types = inferred(state, node)
    except OnnxpumaError as error:
        if not node.traits.control:
            raise Refused(error.message, sizes=True) from error
        yield from unrolled(state, node)
        return
    state.client_nodes.append(node)
    bounds = at_client(state.blueprint, state.values, node, types)
    for name, kind, bound in zip(node.outputs, types, bounds, strict=True):
        if name:
            state.values[name] = Known(kind, client=True, constant=False, bound=bound)
