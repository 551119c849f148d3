"""Requests that run the same nodes: which steps compute them at once, and which each for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.late import with_seen
from onnxpuma.ops.registry import Call, Operand, Operator, altered
from onnxpuma.ops.side_by_side import JOIN, PART
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.together.alike import alike, different, equal, fits, formatted, resting
from onnxpuma.plan.together.ends import Filling, Given, filled_up, needed, sizes
from onnxpuma.plan.together.local import local_step
from onnxpuma.plan.together.rows import ends


def own_name(name: str, member: int) -> str:
    """The name, in a joint plan, of a value that belongs to one request alone."""
    return f"{name} of request {member}"


@dataclass
class _Value:
    """A secret value of the requests of one group: apart, end to end, or both."""

    find: Callable[[], list[Operand]]
    apart: bool = True  # whether the run has the parts
    whole: dict[int, Operand] = field(default_factory=dict)  # by axis
    filled: dict[tuple[int, int], Operand] = field(default_factory=dict)  # by axis, and the one filled up

    @cached_property
    def parts(self) -> list[Operand]:
        """By request, under their own names."""
        return self.find()


@dataclass(frozen=True)
class _Way:
    """How one step computes all requests: the axis of its outputs, and of the inputs that lie end to end."""

    axis: int
    axes: Mapping[int, int]
    fused: Call
    steps: int  # that bring its inputs together


@dataclass
class Group:
    """Builds the steps of requests that run the same nodes."""

    members: list[int]
    plans: list[Plan]
    seen: set[tuple[str, ...]]  # constant steps that the run has already
    steps: list[Step] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)  # made by constant steps

    def run(self) -> list[Step]:
        for steps in zip(
            *([step for step in plan.steps if not step.checks] for plan in self.plans), strict=True
        ):
            if steps[0].constant:
                self._constant(steps[0])
                continue
            way = self._best(steps) if len(steps) > 1 else None
            if way is not None:
                self._together(steps, way)
            else:
                for place, step in enumerate(steps):
                    self._alone(place, step)
        for place, plan in enumerate(self.plans):
            for step in plan.steps:
                if step.checks:
                    self._alone(place, step)
            for output in plan.outputs:
                if output.secret and output.name in self.values:
                    self._cut(self.values[output.name])
        return self.steps

    def _constant(self, step: Step) -> None:
        self.shared.update(step.outputs)
        if step.outputs not in self.seen:
            self.seen.add(step.outputs)
            self.steps.append(step)

    def _is_shared(self, operand: Operand) -> bool:
        """Whether all requests read it under one name: a weight, or what follows from weights alone."""
        return operand.name in self.shared or (operand.weight and operand.name not in self.values)

    # ---- one step for each request ----------------------------------------------------------------------

    def _alone(self, place: int, step: Step) -> None:
        member, call = self.members[place], step.call
        inputs = tuple(
            o if o is None or not o.secret or self._is_shared(o) else self._part(o, place)
            for o in call.inputs
        )
        outputs = tuple(altered(o, name=own_name(o.name, member)) for o in call.outputs)
        node = call.node
        if step.checks:  # its random combinations follow from its name: each request has its own
            node = replace(node, name=own_name(node.name, member))
        for name, operand in zip(step.outputs, resting(step, outputs), strict=True):
            value = self.values.get(name)
            if value is None:
                value = self.values[name] = _Value(partial(list, [operand] * len(self.plans)))
            value.parts[place] = operand
        made = altered(call, node=node, inputs=inputs, outputs=outputs)
        names = tuple(own_name(name, member) for name in step.outputs)
        self.steps.append(Step(step.index, step.operator, made, names, step.resolves, step.constant))

    def _part(self, operand: Operand, place: int) -> Operand:
        """A request's own value, cut out of the whole where it is not there yet."""
        value = self.values.get(operand.name)
        if value is not None:
            self._cut(value)
        return altered(operand, name=own_name(operand.name, self.members[place]))

    def _cut(self, value: _Value) -> None:
        if value.apart:
            return
        value.apart = True
        axis, whole = next(iter(value.whole.items()))
        start = 0
        for part in value.parts:
            size = part.shape[axis]
            self._add(PART, [whole], part, {"axis": axis, "start": start, "size": size})
            start += size

    def _add(
        self, operator: Operator, inputs: Sequence[Operand], made: Operand, attributes: dict[str, Any]
    ) -> None:
        self.steps.append(local_step(operator, inputs, made, attributes, self.plans[0].opset))

    # ---- one step for all -------------------------------------------------------------------------------

    def _best(self, steps: Sequence[Step]) -> _Way | None:
        """The way with the fewest steps beside it; None where each request needs its own step."""
        calls = [step.call for step in steps]
        first = calls[0]
        if not all(alike(first, call) for call in different(calls)):
            return None
        inputs = [[call.operand(slot) for call in calls] for slot in range(len(first.inputs))]
        given = Given(
            [o[0] is None or self._is_same(o) for o in inputs],
            [self._lies(o[0]) for o in inputs],
        )
        best: _Way | None = None
        for axis in range(len(first.outputs[0].shape)):
            way = self._way(steps, inputs, axis, given)
            if way is not None and (best is None or way.steps < best.steps):
                best = way
                if not best.steps:
                    break
        return best

    def _is_same(self, operands: Sequence[Operand | None]) -> bool:
        first, *others = (o for o in operands if o is not None)
        if first.secret:
            return self._is_shared(first)
        return all(o is first or equal(o.value, first.value) for o in others)

    def _lies(self, operand: Operand | None) -> int | None:
        value = None if operand is None else self.values.get(operand.name)
        return None if value is None else next(iter(value.whole), None)

    def _way(
        self, steps: Sequence[Step], inputs: Sequence[Sequence[Operand | None]], axis: int, given: Given
    ) -> _Way | None:
        calls = [step.call for step in steps]
        first = calls[0]
        found = ends(first, axis, given)
        if found is None or any(ends(call, axis, given) != found for call in different(calls)):
            return None
        whole: list[Operand | None] = []
        effort = 0
        for slot, operands in enumerate(inputs):
            present = [o for o in operands if o is not None]
            if slot not in found.axes:
                if not (given.same[slot] or slot in found.unread):
                    return None
                whole.append(operands[0])
                continue
            filling = needed(present, found.fillings.get(slot))
            if not present or not fits(
                present, found.axes[slot], filled=None if filling is None else filling.axis
            ):
                return None
            if present[0].secret:
                if given.same[slot]:
                    return None
                effort += self._effort(present[0].name, found.axes[slot])
            if filling is not None and any(o.beside is not None for o in present):
                return None
            whole.append(self._end_to_end(present, found.axes[slot], filling))
        outputs = []
        for number in range(len(first.outputs)):
            made = [call.outputs[number] for call in calls]
            if not fits(made, axis, but=("format", "form")):
                return None
            outputs.append(self._end_to_end(made, axis))
        together = altered(first, inputs=tuple(whole), outputs=tuple(outputs))
        fused = formatted(steps, with_seen(together, steps[0].operator.late))
        return None if fused is None else _Way(axis, found.axes, fused, effort)

    def _effort(self, name: str, axis: int) -> int:
        value = self.values.get(name)
        if value is not None and axis in value.whole:
            return 0
        return 1 if value is None or value.apart else 1 + len(self.members)

    def _end_to_end(self, operands: Sequence[Operand], axis: int, filling: Filling | None = None) -> Operand:
        """The operand that holds these one after the other."""
        first = operands[0]
        shape = list(first.shape)
        shape[axis] = sum(o.shape[axis] for o in operands)
        if filling is not None:
            shape[filling.axis] = max(o.shape[filling.axis] for o in operands)
        changes: dict[str, Any] = {"shape": tuple(shape)}
        if first.value is not None:
            parts = [filled_up(np.asarray(o.value), shape, filling) for o in operands]
            changes |= {"value": np.concatenate(parts, axis), "seen": None}
        else:
            changes["name"] = f"{first.name} of {len(operands)} requests from {self.members[0]}"
            if axis:
                changes["name"] += f" along {axis}"
            if filling is not None:
                changes["name"] += f", filled up along {filling.axis}"
        if any(o.beside is not None for o in operands):
            beside = [np.broadcast_to(0.0 if o.beside is None else o.beside, o.shape) for o in operands]
            changes["beside"] = np.concatenate(beside, axis)
        if any(o.bound != first.bound for o in different(operands)):
            low, high = min(o.bound.low for o in operands), max(o.bound.high for o in operands)
            changes["bound"] = Bound(low, high, max(o.bound.norm for o in operands))
        if filling is not None and first.value is None:
            bound = changes.get("bound", first.bound)
            changes["bound"] = replace(bound, low=min(bound.low, 0.0), high=max(bound.high, 0.0))
        return altered(first, **changes)

    def _together(self, steps: Sequence[Step], way: _Way) -> None:
        for slot, axis in way.axes.items():
            operands = [step.call.given(slot) for step in steps]
            whole = way.fused.given(slot)
            if whole.secret:
                self._joined(operands, whole, axis)
        made = tuple(o.name for o in way.fused.outputs)
        first = steps[0]
        step = Step(first.index, first.operator, way.fused, made, first.resolves, first.constant)
        self.steps.append(step)
        for number, whole in enumerate(resting(step, way.fused.outputs)):
            parts = partial(self._parts_of, steps, number, whole)
            self.values[first.outputs[number]] = _Value(parts, False, {way.axis: whole})

    def _parts_of(self, steps: Sequence[Step], number: int, whole: Operand) -> list[Operand]:
        """Each request's part of an output that lies end to end."""
        own = [(one.outputs[number], one.call.outputs[number]) for one in steps]
        return [
            altered(whole, name=own_name(name, member), shape=o.shape, beside=o.beside)
            for member, (name, o) in zip(self.members, own, strict=True)
        ]

    def _joined(self, operands: Sequence[Operand], whole: Operand, axis: int) -> None:
        """Bring the requests' values together along `axis`, unless they lie so already."""
        value = self.values.get(operands[0].name)
        if value is None:
            value = self.values[operands[0].name] = _Value(partial(self._own, operands))
        others = (at for at in range(len(whole.shape)) if at != axis)
        filled = [at for at in others if whole.shape[at] != min(sizes(operands, at))]
        if not filled and axis not in value.whole:
            self._cut(value)
            self._add(JOIN, self._own(operands), whole, {"axis": axis})
            value.whole[axis] = whole
        elif filled and (axis, filled[0]) not in value.filled:
            self._cut(value)
            made = {"axis": axis, "filled": filled[0], "size": whole.shape[filled[0]]}
            self._add(JOIN, self._own(operands), whole, made)
            value.filled[axis, filled[0]] = whole

    def _own(self, operands: Sequence[Operand]) -> list[Operand]:
        """Each request's operand, under its own name."""
        named = zip(operands, self.members, strict=True)
        return [altered(operand, name=own_name(operand.name, member)) for operand, member in named]
