"""What a step says of its results, found once for all nodes that are alike: most layers of a model.

It follows from the content of the call, and from what the owner says of the node and its results by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from onnxpuma.graph.model import ValueType
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.registry import Call, Operand, Operator, Use, altered
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import given_types
from onnxpuma.plan.walk.masks import far_enough


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A call with its results, and what was watched for it: places of operands, and bounds at that time."""

    given: Sequence[Operand | None]
    types: Sequence[ValueType]  # of the results
    call: Call
    watched: list[tuple[int, Operand, Need, int | None]]


def settled(
    state: State,
    use: Use,
    operator: Operator,
    types: Callable[[], Sequence[ValueType]],
    settle: Callable[[Sequence[ValueType]], Call],
) -> Call:
    """What `settle` returns for a use and the types of its results: the call with its results, and with
    inputs whose bounds may be narrower. It also watches needs of these inputs, as is done again for a use
    that is like one before. types: finds those of the results, or raises."""
    question, content = _question(state, use, operator), use.content
    state.contents.append(content)
    before: _Pattern | None = content.found.get(question)
    if before is not None:
        state.budget.before_secret(use.node, given_types(state.values, use.node), before.types)
        return _again(state, use, before)
    found = types()
    noted, revised = len(state.watched.noted), state.revised
    made = settle(found)
    if state.revised == revised:
        watched = _by_place(use, state.watched.noted[noted:])
        if watched is not None:
            content.found[question] = _Pattern(use.inputs, found, made, watched)
    return made


def _question(state: State, use: Use, operator: Operator) -> Hashable:
    """All that counts beside the content."""
    blueprint, names = state.blueprint, use.node.outputs
    calibrated = tuple(sorted(blueprint.bounds(use.node.name).items()))
    finer = tuple([(state.finer.get(name, 0), name and far_enough(state.readers, name)) for name in names])
    stated: Hashable = None
    if all(o.weight for o in use.secrets):
        bounds = [blueprint.known_bounds.get(name) for name in names]
        stated = tuple(None if bound is None else bound.key for bound in bounds)
    return "settled", operator.name, blueprint.checked, blueprint.resting, calibrated, finer, stated


def _by_place(
    use: Use, noted: Sequence[tuple[Operand, Need, Operand | None]]
) -> list[tuple[int, Operand, Need, int | None]] | None:
    """What was watched, by the places of its operands; None where one is no input of the use."""
    places = {o.name: place for place, o in enumerate(use.inputs) if o is not None}
    found = []
    for operand, need, divisor in noted:
        if operand.name not in places or (divisor is not None and divisor.name not in places):
            return None
        by = None if divisor is None else places[divisor.name]
        found.append((places[operand.name], operand, need, by))
    return found


def _again(state: State, use: Use, before: _Pattern) -> Call:
    """The same for a use of equal content."""

    def own(place: int, operand: Operand) -> Operand:
        mine = use.given(place)
        return mine if operand is before.given[place] else altered(mine, bound=operand.bound)

    for place, operand, need, by in before.watched:
        divisor = None if by is None else use.given(by)
        state.watched.add(own(place, operand), need, divisor)
    inputs = list(use.inputs)
    for place, (old, now) in enumerate(zip(before.given, before.call.inputs, strict=True)):
        if now is None or now is old:
            continue
        assumed = inputs[place] = own(place, now)
        known = state.values.get(assumed.name)
        if known is not None and known.operand is not None:
            state.values[assumed.name] = replace(known, operand=assumed)
    named = zip(before.call.outputs, use.node.outputs, strict=True)
    outputs = [altered(made, name=name) for made, name in named]
    return before.call.again(use.node, inputs, outputs)
