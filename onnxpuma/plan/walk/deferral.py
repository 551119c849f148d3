"""When a product is truncated: at once, or by its only reader, which may take it untruncated.

The decision is made twice. When a product is planned, the walk looks ahead to its reader (`must_truncate`).
When the reader is planned, all its operands are known, and it may turn out not to take the product after all
(`taken`): a term that a secret mask puts far out, for example, leaves no room at the scale of a product.
"""

from __future__ import annotations

from dataclasses import replace

from onnxpuma.graph.model import Node
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.beside import fits
from onnxpuma.ops.registry import Call, Operand, Operator, Use, altered, find
from onnxpuma.plan.bounds.ranges import ranged
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import expected
from onnxpuma.plan.walk.undefined import guarded
from onnxpuma.plan.weights.scaling import DEFERRED_ROOM, INPUT_ROOM


def must_truncate(state: State, operand: Operand, call: Call) -> bool:
    """Whether an output is truncated at once: unless its only reader takes it untruncated."""
    if not operand.deferred:
        return False
    readers = state.readers.get(operand.name, [])
    if operand.name in state.selection.kept:
        return True
    if operand.hollow and guarded(state.producers, state.readers, operand.name):
        return True
    if readers == [None] and operand.name in state.selection.opened:
        return False  # only the client reads it: its terms are shifted as they leave
    if len(readers) != 1 or readers[0] is None or operand.fraction > operand.format.bits - DEFERRED_ROOM:
        return True
    if operand.fraction > operand.format.bits - INPUT_ROOM and any(o.finer for o in call.secrets):
        return True
    reader, place = readers[0]
    return not _takes(state, operand, reader, place)


def _takes(state: State, operand: Operand, reader: Node, place: int) -> bool:
    """Whether a node that is not planned yet will take an operand untruncated, as far as is known now."""
    operator = find(reader)
    if operator is None:
        return False
    if operand.form is Replicated and not operator.moves and not reader.traits.scaled:
        return False
    others = [None if p == place else name for p, name in enumerate(reader.inputs)]
    inputs = tuple(
        operand if p == place else expected(state.values, n, state.blueprint.resting)
        for p, n in enumerate(others)
    )
    use = Use(reader, inputs, state.opset, network=state.network)
    complete = all(name is None or name in state.values for name in others)
    calibrated = tuple(sorted(state.blueprint.bounds(reader.name).items())) if complete else None
    state.contents.append(use.content)

    def takes() -> bool:
        known = ranged(state.blueprint, use) if complete else use
        return operator.defers(known, place) and fits(operand, aware=operator.beside is not None)

    return use.content.once(("takes", operand.content, place, calibrated), takes)


def taken(state: State, call: Call, operator: Operator) -> Call:
    """The call with operands as its operator takes them.

    Where it does not take one untruncated, the step that computes the operand is altered, although it was
    planned earlier.
    """
    inputs = list(call.inputs)
    for place, operand in enumerate(call.inputs):
        if (
            operand is None
            or not operand.deferred
            or operand.form is SecretIds
            or operator.defers(call, place)
        ):
            continue
        number = next(n for n, step in enumerate(state.steps) if operand.name in step.outputs)
        step = state.steps[number]
        resolves = (r or name == operand.name for r, name in zip(step.resolves, step.outputs, strict=True))
        state.steps[number] = replace(step, resolves=tuple(resolves))
        state.revised += 1
        resting = altered(operand, form=Replicated, format=operand.resting)
        state.values[operand.name] = replace(state.values[operand.name], operand=resting)
        inputs[place] = resting
    return altered(call, inputs=tuple(inputs))
