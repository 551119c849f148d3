"""The operands of a step, and the inputs that the client shares for it."""

from __future__ import annotations

from onnxpuma.graph.model import Node
from onnxpuma.mpc.protocols.dpf import ONE_HOT, SecretIds
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.bounds.ranges import entered
from onnxpuma.plan.known.state import State
from onnxpuma.plan.plan import SecretInput
from onnxpuma.plan.walk.masks import given


def operands_of(state: State, node: Node) -> tuple[Operand | None, ...]:
    """The operands of a step. A value that only the client knows becomes an input that it shares."""
    return tuple(
        None if n is None else _operand(state, n, node, place) for place, n in enumerate(node.inputs)
    )


def _operand(state: State, name: str, node: Node, place: int) -> Operand:
    known = state.values[name]
    if known.value is not None:
        return known.public(name)
    if known.operand is not None:
        return known.operand
    if node.op == "Gather" and place == 1:  # ids, which the client shares for each table separately
        table = state.values[node.inputs[0]]  # type: ignore[index]
        depth = int(table.type.shape[node.attribute("axis")])  # type: ignore[index]
        ids = SecretInput(name, known.shape, known.type.dtype, ONE_HOT, depth)
        state.inputs.setdefault(ids.operand, ids)
        resting = state.blueprint.resting.at(0)
        return Operand(ids.operand, known.shape, known.type.dtype, None, SecretIds, ONE_HOT, resting)
    public = state.blueprint.public_inputs
    entry, operand = given(state.readers, state.graph, public, name, known.type, state.blueprint.resting)
    state.inputs.setdefault(name, entry)
    return entered(state.blueprint, entry, operand, made=known.bound)
