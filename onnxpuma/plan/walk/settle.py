"""What a step says of its results, found once for all nodes that are alike: most layers of a model.

It follows from the content of the call, and from what the owner says of the node and its results by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.registry import Call, Operand, Operator, altered
from onnxpuma.plan.known.state import State


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A call with its results, and what was watched for it: places of operands, and bounds at that time."""

    given: Sequence[Operand | None]
    call: Call
    watched: list[tuple[int, Operand, Need, int | None]]


def settled(state: State, call: Call, operator: Operator, settle: Callable[[], Call]) -> Call:
    """What `settle` returns for a call with drafts of its outputs: the call with its results, and with inputs
    whose bounds may be narrower. It also watches needs of these inputs, as is done again for a call that is
    like one before."""
    question, content = _question(state, call, operator), call.content
    state.contents.append(content)
    before = content.found.get(question)
    if before is not None:
        return _again(state, call, before)
    noted, revised = len(state.watched.noted), state.revised
    made = settle()
    if state.revised == revised:
        watched = _by_place(call, state.watched.noted[noted:])
        if watched is not None:
            content.found[question] = _Pattern(call.inputs, made, watched)
    return made


def _question(state: State, call: Call, operator: Operator) -> Hashable:
    """All that counts beside the content."""
    blueprint, names = state.blueprint, [o.name for o in call.outputs]
    calibrated = tuple(sorted(blueprint.bounds(call.node.name).items()))
    finer = tuple([state.finer.get(name, 0) for name in names])
    stated: Hashable = None
    if all(o.weight for o in call.secrets):
        bounds = [blueprint.known_bounds.get(name) for name in names]
        stated = tuple(None if bound is None else bound.key for bound in bounds)
    return "settled", operator.name, blueprint.checked, blueprint.resting, calibrated, finer, stated


def _by_place(
    call: Call, noted: Sequence[tuple[Operand, Need, Operand | None]]
) -> list[tuple[int, Operand, Need, int | None]] | None:
    """What was watched, by the places of its operands; None where one is no input of the call."""
    places = {o.name: place for place, o in enumerate(call.inputs) if o is not None}
    found = []
    for operand, need, divisor in noted:
        if operand.name not in places or (divisor is not None and divisor.name not in places):
            return None
        by = None if divisor is None else places[divisor.name]
        found.append((places[operand.name], operand, need, by))
    return found


def _again(state: State, call: Call, before: _Pattern) -> Call:
    """The same for a call of equal content."""

    def own(place: int, operand: Operand) -> Operand:
        mine = call.given(place)
        return mine if operand is before.given[place] else altered(mine, bound=operand.bound)

    for place, operand, need, by in before.watched:
        divisor = None if by is None else call.given(by)
        state.watched.add(own(place, operand), need, divisor)
    inputs = list(call.inputs)
    for place, (old, now) in enumerate(zip(before.given, before.call.inputs, strict=True)):
        if now is None or now is old:
            continue
        assumed = inputs[place] = own(place, now)
        known = state.values.get(assumed.name)
        if known is not None and known.operand is not None:
            state.values[assumed.name] = replace(known, operand=assumed)
    outputs = [
        altered(made, name=draft.name) for made, draft in zip(before.call.outputs, call.outputs, strict=True)
    ]
    return before.call.again(call.node, inputs, outputs)
