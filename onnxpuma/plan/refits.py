"""Steps whose operands get other formats, and what follows: what they do not truncate.

What a step becomes is found once for all steps of equal content. It is noted at the step as well, since the
plan for one more token asks the same of most steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence

from onnxpuma.mpc.format import Format
from onnxpuma.ops.registry import Call, Operand, altered
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.known.decisions import Changed, Steps
from onnxpuma.plan.known.likeness import renamed
from onnxpuma.plan.plan import Step

_NOTED = 8  # refits of one step


def followed(steps: Steps, readers: Mapping[str, Sequence[int]], number: int, new: Step) -> Changed:
    """Number -> step, for the new step and all that change with it: what they do not truncate follows it."""
    changed, values = {number: new}, dict(new.left)
    waiting = [reader for name in values for reader in readers.get(name, ())]
    heapq.heapify(waiting)
    while waiting:
        reader = heapq.heappop(waiting)
        if reader in changed:
            continue
        before = steps[reader]
        after = changed[reader] = refitted(before, values)
        old = before.left
        for name, operand in after.left.items():
            if (operand.format, operand.form) != (old[name].format, old[name].form):
                for later in readers.get(name, ()):
                    heapq.heappush(waiting, later)
        values.update(after.left)
    return changed


def with_values(step: Step, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Step:
    """A step with other operands; it truncates no output that is no longer a product."""
    old = step.call
    call = Call(old.node, tuple(inputs), old.opset, tuple(outputs), bounds=old.bounds, network=old.network)
    resolves = tuple([r and o.deferred for r, o in zip(step.resolves, outputs, strict=True)])
    return Step(step.index, step.operator, call, step.outputs, resolves, step.constant)


def resting_at(step: Step, place: int, format: Format) -> Step:
    """A step with an output that rests in this format; where it is not truncated, the kernel leaves it so."""
    return noted(step, (place, format), lambda: _resting_at(step, place, format))


def noted(step: Step, key: Hashable, find: Callable[[], Step]) -> Step:
    """What `find` makes of this step, found once. key: names it among all that is made of a step."""
    return _noted(step, key, (), find)


def _resting_at(step: Step, place: int, format: Format) -> Step:
    made = altered(step.call.outputs[place], resting=format)
    made = made if step.resolves[place] else altered(made, format=format)
    outputs = [made if p == place else o for p, o in enumerate(step.call.outputs)]
    return with_values(step, step.call.inputs, outputs)


def refitted(step: Step, values: Mapping[str, Operand]) -> Step:
    """A step with inputs in other formats: what it does not truncate follows them."""
    given = [None if o is None else values.get(o.name) for o in step.call.inputs]
    return _noted(step, tuple(map(id, given)), given, lambda: _like_others(step, given))


def _noted(step: Step, key: Hashable, given: Sequence[Operand | None], find: Callable[[], Step]) -> Step:
    """given: the objects that the key names by their ids, which have to stay alive."""
    refits = step.refits
    before = refits.get(key)
    if before is None:
        if len(refits) >= _NOTED:
            refits.clear()
        before = refits[key] = given, find()
    return before[1]


def _like_others(step: Step, given: Sequence[Operand | None]) -> Step:
    facts = tuple([None if o is None else (o.form, o.format, o.resting, o.reads) for o in given])
    question = "refitted", step.resolves, facts
    found = step.call.content.once(question, lambda: _refitted(step, given))
    if found.call.node is step.call.node and found.index == step.index:
        return found
    return renamed(step, found)


def _refitted(step: Step, given: Sequence[Operand | None]) -> Step:
    inputs = [o if o is None else _in_format(o, now) for o, now in zip(step.call.inputs, given, strict=True)]
    new = with_values(step, inputs, step.call.outputs)
    result = new.result
    if result.format is None:
        return new
    outputs = []
    for operand, resolves in zip(step.call.outputs, step.resolves, strict=True):
        if operand.dtype.kind == "f":
            rests = not resolves and not operand.deferred
            resting = result.format if rests else operand.resting
            operand = altered(operand, form=result.form, format=result.format, resting=resting)
        outputs.append(operand)
    return with_values(step, inputs, outputs)


def _in_format(operand: Operand, now: Operand | None) -> Operand:
    if now is None:
        return operand
    return altered(operand, form=now.form, format=now.format, resting=now.resting, reads=now.reads)


def holds(old: Step, new: Step) -> bool:
    """Whether all that was proved of a step still is, and what was not has as much room as before."""
    if old is new:
        return True
    before = {what: rest for what, *rest in _proofs(old)}
    for what, below, least, proved in _proofs(new):
        if proved:
            continue
        if what not in before:
            return False
        same_below, same_least, same_proved = before[what]
        if same_proved or below < same_below or least > same_least:
            return False
    return True


def _proofs(step: Step) -> list[tuple[str, float, float, bool]]:
    """What is limited in a step, the limits, and whether they are proved."""
    return step.call.content.once("proofs", lambda: _found_proofs(step))


def _found_proofs(step: Step) -> list[tuple[str, float, float, bool]]:
    return [(limit.what, limit.below, limit.least, limit.proved(step.call)) for limit in limits_of(step)]
