"""Steps: calls of a kernel on shares, with the form in which each result is left for its readers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.late import with_seen
from onnxpuma.ops.registry import Call, Operand, Operator, Result, Use, altered, find
from onnxpuma.plan.bounds.ranges import bounded, ranged
from onnxpuma.plan.bounds.watch import watched
from onnxpuma.plan.known.state import Settled, State
from onnxpuma.plan.known.values import Known, given_types
from onnxpuma.plan.plan import Step
from onnxpuma.plan.walk.deferral import must_truncate, taken
from onnxpuma.plan.walk.masks import drafted, refusal, with_beside
from onnxpuma.plan.walk.narrow import check_ring, check_room
from onnxpuma.plan.walk.operands import operands_of
from onnxpuma.plan.walk.parts import Parts, Refused
from onnxpuma.plan.walk.settle import settled
from onnxpuma.plan.walk.types import found_types
from onnxpuma.plan.walk.undefined import evened


def planned(state: State, node: Node) -> Parts[None]:
    """Plan a node as a step; if a softmax needs parts that make its emptied rows even, plan these first."""
    constant = all(state.values[name].constant for name in node.reads)
    node = yield from evened(state, node)
    operator = find(node)
    assert operator is not None
    if any(state.values[n].type.dtype.kind == "O" for n in node.inputs if n):
        raise Refused("it combines text with a secret value, and shares are numbers: request those instead")
    check_ring(operator, state.blueprint.resting)
    shared = any(state.values[n].client for n in node.inputs if n)  # only if its types allow the node
    types = _types(state, node) if shared else None
    operands = operands_of(state, node)
    if not operator.integers and any(_is_whole(o) for o in operands):
        raise Refused("it computes on secret integers or booleans: it is supported for reals only")
    use = with_seen(Use(node, operands, state.opset, network=state.network), operator.late)
    call = settled(
        state, use, operator, lambda: types or _types(state, node), partial(_settle, state, use, operator)
    )
    # A server keeps constants for all its requests, and computes them again after a restart. So only steps
    # without messages are constant: otherwise it would be out of step with the servers that still have them.
    constant = constant and all(o.weight for o in call.secrets) and operator.moves
    record(state, Settled(call, operator, constant, {}))


def _settle(state: State, use: Use, operator: Operator, types: Sequence[ValueType]) -> Call:
    """A use becomes a call with all that is known of its outputs. types: of these."""
    outputs = drafted(state.readers, use.node, types, state.blueprint.resting)
    call = Call(use.node, use.inputs, use.opset, outputs, network=use.network)
    call = taken(state, ranged(state.blueprint, call), operator)
    reason = refusal(call, operator) if call.secrets else "none of its inputs is secret"
    if reason is not None:
        raise Refused(reason, sizes=" is beyond " in reason)
    call = watched(state, _with_results(state, call, operator), operator)
    check_room(call)
    return call


def _types(state: State, node: Node) -> list[ValueType]:
    try:
        types = found_types(state, node)
    except OnnxpumaError as error:
        raise Refused(error.message, sizes=True) from error
    state.budget.before_secret(node, given_types(state.values, node), types)
    return types


def _is_whole(operand: Operand | None) -> bool:
    """Whether a secret operand consists of integers or booleans, other than ids that the client knows."""
    if operand is None or not operand.secret or operand.form is SecretIds:
        return False
    return operand.dtype.kind != "f"


def _with_results(state: State, call: Call, operator: Operator) -> Call:
    """The call with outputs as the kernel leaves them: form, scale, the numbers beside them, bounds."""
    weight = all(o.weight for o in call.secrets)
    finer = [(o, state.finer.get(o.name, 0)) for o in call.outputs]
    outputs = [altered(o, resting=o.resting.finer(bits)) if bits else o for o, bits in finer]
    made = [altered(o, weight=weight) for o in _left_in(outputs, operator.result(call))]
    if weight and operator.moves:
        moved = call.secrets[0]  # a weight may rest at fewer bits than values do
        made = [altered(o, reads=moved.reads, resting=_coarser(o.resting, moved.resting)) for o in made]
    return bounded(state.blueprint, altered(call, outputs=with_beside(call, operator, made)), operator)


def _coarser(first: Format, second: Format) -> Format:
    return min(first, second, key=lambda format: format.fraction)


def _left_in(outputs: Sequence[Operand], result: Result) -> list[Operand]:
    """The outputs in the form in which a kernel leaves them. Places beside reals are whole words."""
    reals = [o.dtype.kind == "f" for o in outputs]
    return [
        altered(o, form=result.form, format=result.format or o.resting) if real or not reals[0] else o
        for o, real in zip(outputs, reals, strict=True)
    ]


def record(state: State, settled: Settled) -> None:
    """Add the step, and note the form in which its readers find each result."""
    call, operator, constant = settled.call, settled.operator, settled.constant
    state.settled = Settled(call, operator, constant, state.values.noted_apart())
    resolves = tuple(must_truncate(state, o, call) for o in call.outputs)
    state.steps.append(Step(len(state.steps), operator, call, call.node.outputs, resolves, constant))
    for operand, resolve in zip(call.outputs, resolves, strict=True):
        kept = altered(operand, form=Replicated, format=operand.resting) if resolve else operand
        kind = ValueType(kept.dtype, kept.shape)
        state.values[operand.name] = Known(kind, operand=kept, constant=constant)
