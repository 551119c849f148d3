"""Weights that are stored in few bits: the steps of a plan read them in their rings.

The walk plans with all weights in the ring of the model, so it finds the same steps for every ring. Here the
products with narrow weights change, and what their readers take untruncated follows. Where that does not hold
the values, the product is truncated before it is read. The planner changes nothing that bounds do not allow:
it watches the factor of a product without a proof, or refuses the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from onnxpuma.mpc.forms import Sum3
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops import limits
from onnxpuma.ops.limits import ROOM
from onnxpuma.ops.narrow_factor import CALIBRATED, LEAST_READ
from onnxpuma.ops.registry import Operand, altered
from onnxpuma.ops.rows import exponent
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.bounds.watch import proved
from onnxpuma.plan.budget import LOOK
from onnxpuma.plan.known.decisions import Changed, Decisions, Steps
from onnxpuma.plan.known.refusals import Refusal
from onnxpuma.plan.known.state import State
from onnxpuma.plan.plan import Step
from onnxpuma.plan.refits import followed, holds, refitted, with_values
from onnxpuma.plan.weights.factors import PRODUCTS


def with_narrow_weights(state: State, decisions: Decisions | None = None) -> None:
    """Let the planned steps read each weight in the ring in which it is stored.

    decisions: those of the last plan of this graph, selection and network, and then of this one.
    """
    rings = state.blueprint.rings
    if not rings:
        return
    decisions = decisions or Decisions()
    readers = decisions.begin(state.steps)
    narrow: dict[str, Operand] = {}
    for name in rings:
        known = state.values.held(name)
        if known is not None and known.operand is not None:
            stored = partial(_stored, state.blueprint, known.operand)
            narrow[name] = decisions.decided(("stored", name), state.steps, stored, known.operand)
    _Narrowing(state, narrow, {name: name for name in narrow}, readers, decisions).run()


def _stored(blueprint: Blueprint, weight: Operand, _: Steps) -> Operand:
    """A weight in the format in which it is stored."""
    format = blueprint.format(weight.name)
    return altered(weight, format=format, resting=format, reads=blueprint.reads.get(weight.name, 0))


@dataclass
class _Narrowing:
    """The steps of a plan, and the narrow weights among its values."""

    state: State
    narrow: dict[str, Operand]
    # Value -> the weight that it was moved from.
    origins: dict[str, str]
    readers: Mapping[str, Sequence[int]]
    decisions: Decisions

    def run(self) -> None:
        steps = self.state.steps
        for number, step in enumerate(steps):
            if number % LOOK == 0:
                self.state.budget.check_time()
            if self.narrow.keys().isdisjoint(step.reads):
                continue
            read = [name for name in step.reads if name in self.narrow]
            given = [self.narrow[name] for name in read]
            if step.operator.moves and all(o.weight for o in step.call.secrets):
                moves = partial(self._moved, number)
                steps[number], moved = self.decisions.decided(("moves", number), steps, moves, *given)
                self.narrow.update(moved)
                self.origins.update(dict.fromkeys(step.outputs, self.origins[read[0]]))
            elif is_look_up(step):
                fits = partial(self._refitted, number)
                steps[number] = self.decisions.decided(("looks up", number), steps, fits, *given)
            elif step.operator.name in PRODUCTS and _factors_secret(step):
                places = partial(self._multiplied, number)
                changed = self.decisions.changed(("multiplies", number), steps, places, *given)
                if changed is None:
                    changed = self._unproved(number, refitted(step, self.narrow))
                if changed is not None:
                    self._commit(changed)
            else:
                self._refuse(step, f"its input '{self.origins[read[0]]}' is stored for products alone")

    def _refitted(self, number: int, steps: Steps) -> Step:
        return refitted(steps[number], self.narrow)

    def _moved(self, number: int, steps: Steps) -> tuple[Step, dict[str, Operand]]:
        """The step that moves a narrow weight, and what it leaves."""
        step = steps[number]
        new = refitted(step, self.narrow)
        reads = next(self.narrow[name].reads for name in step.reads if name in self.narrow)
        return new, {name: altered(o, reads=reads) for name, o in new.left.items()}

    def _multiplied(self, number: int, steps: Steps) -> Changed | None:
        """What changes with a product in its place, untruncated as before or truncated; None without a proof
        for either."""
        new = refitted(steps[number], self.narrow)
        changed = untruncated(steps, self.readers, number, new)
        return truncated(steps, self.readers, number, self._lower(new)) if changed is None else changed

    def _lower(self, new: Step) -> Step:
        """The product with a factor of fewer fraction bits, where its bound needs that."""
        made = new.call.outputs[0]
        if made.bound.size == float("inf"):
            return new
        most = made.format.bits - 2 - exponent(made.bound.size * (1 + ROOM) + ROOM)
        weight = next(o for o in new.call.inputs[:2] if o is not None and o.name in self.narrow)
        reads = most - weight.fraction
        if made.fraction <= most or reads < LEAST_READ:
            return new
        return refitted(_with_reads(new, weight, reads), {})

    def _unproved(self, number: int, new: Step) -> Changed | None:
        state, old = self.state, self.state.steps[number]
        new = _resolved(new)
        calibrated = CALIBRATED in new.call.bounds
        found = [limit for limit in limits_of(new) if not limit.proved(new.call)]
        needs = [need for limit in found for need in limit.needs(new.call)]
        below = min(limit.below for limit in limits_of(new) if limit.what == "|result|")
        weight = next(o.name for o in new.call.inputs[:2] if o is not None and o.name in self.narrow)
        said = f"its weight '{self.origins[weight]}' is stored for results below {limits.number(below)}"
        if calibrated and new.call.bounds[CALIBRATED] > below:
            needs = []
        elif state.blueprint.checked and needs:
            for need in needs:
                operand = new.call.given(need.place)
                if operand.form is not SecretIds and not operand.weight and not proved(operand, need):
                    state.watched.add(operand, need)
            return followed(state.steps, self.readers, number, new)
        elif calibrated:
            return followed(state.steps, self.readers, number, new)
        bound = old.call.outputs[0].bound.size
        known = f"and this one may reach {bound:.4g}" if bound < float("inf") else "and no bound is known"
        self._refuse(old, f"{said}, {known}")
        return None

    def _commit(self, changed: Changed) -> None:
        steps = self.state.steps
        for number, step in changed.items():
            steps[number] = step
            left = step.left
            for key, (need, operand, divisor) in self.state.watched.found.items():
                if operand.name in left:
                    self.state.watched.found[key] = need, _as_left(operand, left[operand.name]), divisor

    def _refuse(self, step: Step, reason: str) -> None:
        node = step.call.node
        self.state.refusals.append(Refusal(node.name, node.op, self.state.opset, reason))


def untruncated(steps: Steps, readers: Mapping[str, Sequence[int]], number: int, new: Step) -> Changed | None:
    """What changes with a product that its readers take as they did before; None where that cannot be."""
    changed = followed(steps, readers, number, new)
    if not all(_takes(steps[n], step) for n, step in changed.items() if n != number):
        return None
    return changed if all(holds(steps[n], step) for n, step in changed.items()) else None


def truncated(steps: Steps, readers: Mapping[str, Sequence[int]], number: int, new: Step) -> Changed | None:
    """What changes with a product that is truncated before it is read; None where its bound does not fit."""
    new = _resolved(new)
    changed = followed(steps, readers, number, new)
    return changed if all(holds(steps[n], step) for n, step in changed.items()) else None


def _takes(old: Step, new: Step) -> bool:
    """Whether a step still reads all that it needs of untruncated inputs; a sum of them needs no more."""
    if any(operand.deferred for operand in new.call.outputs):
        return True
    for place, (before, after) in enumerate(zip(old.call.inputs, new.call.inputs, strict=True)):
        if before is None or after is None or not after.deferred or before.format == after.format:
            continue
        asked = old.operator.accepts(old.call, place)
        if asked is None:
            if not new.operator.defers(new.call, place):
                return False
        elif asked.bits - asked.fraction > after.format.bits - after.fraction:
            return False
    return True


def is_look_up(step: Step) -> bool:
    """Whether a step looks up rows of a table at ids that only the client knows."""
    index = step.call.operand(1)
    return step.operator.name == "Gather" and index is not None and index.form is SecretIds


def _factors_secret(step: Step) -> bool:
    return all(step.call.secret(place) for place in (0, 1))


def _resolved(step: Step) -> Step:
    made = step.call.outputs[0]
    return with_values(
        Step(step.index, step.operator, step.call, step.outputs, (made.form is Sum3,), step.constant),
        step.call.inputs,
        step.call.outputs,
    )


def _with_reads(step: Step, weight: Operand, reads: int) -> Step:
    inputs = [altered(o, reads=reads) if o is weight else o for o in step.call.inputs]
    return with_values(step, inputs, step.call.outputs)


def _as_left(operand: Operand, left: Operand) -> Operand:
    return altered(operand, form=left.form, format=left.format, resting=left.resting)
