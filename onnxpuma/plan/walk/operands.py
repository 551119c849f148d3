"""The operands of a step, and the inputs that enter as shares."""

from __future__ import annotations

from onnxpuma.graph.model import Node
from onnxpuma.mpc.protocols.dpf import ONE_HOT, SecretIds
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.bounds.ranges import entered
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import SecretInput
from onnxpuma.plan.walk.masks import given


def operands_of(state: State, node: Node) -> tuple[Operand | None, ...]:
    """What a step knows of its inputs. A client's value becomes an input that the client shares."""
    return tuple(
        None if n is None else _operand(state, n, node, place) for place, n in enumerate(node.inputs)
    )


def _operand(state: State, name: str, node: Node, place: int) -> Operand:
    known = state.values[name]
    if known.value is not None:
        return Operand(name, known.shape, known.type.dtype, known.value)
    if known.operand is not None:
        return known.operand
    if node.op == "Gather" and place == 1:  # ids, which the client shares for each table anew
        table = state.values[node.inputs[0]]  # type: ignore[index]
        depth = int(table.type.shape[node.attribute("axis")])  # type: ignore[index]
        ids = SecretInput(name, known.shape, known.type.dtype, ONE_HOT, depth)
        state.inputs.setdefault(ids.operand, ids)
        resting = state.blueprint.resting.at(0)
        return Operand(ids.operand, known.shape, known.type.dtype, None, SecretIds, ONE_HOT, resting)
    entry, operand = given(state.readers, state.graph, name, known.type, state.blueprint.resting)
    state.inputs.setdefault(name, entry)
    return entered(state.blueprint, entry, operand, made=known.bound)


def share(state: State, name: str) -> None:
    """An input that enters as shares whoever reads it: the client shares it, or the servers kept it."""
    kind = state.values[name].type
    held = name in state.selection.held
    entry, operand = given({} if held else state.readers, state.graph, name, kind, state.blueprint.resting)
    (state.held if held else state.inputs)[name] = entry
    state.values[name] = Known(kind, operand=entered(state.blueprint, entry, operand, held), constant=False)
