"""How the steps of a plan are cut into lanes, and where their values are joined again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.registry import Call, Operand, Operator, altered
from onnxpuma.ops.side_by_side import JOIN, PART
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.together.alike import resting
from onnxpuma.plan.together.ends import Given
from onnxpuma.plan.together.local import local_step
from onnxpuma.plan.together.rows import ends

ROWS = 32  # that a lane has at least: products of fewer rows cost almost as much
DEARER = 1.25  # times the bits of a step, that its parts may send: each lane reads keys and values


Cut: TypeAlias = "tuple[int, tuple[int, ...]]"  # an axis, and where it is cut: from 0 to its size


@dataclass
class _Value:
    """A value in lanes, cut in one way or several; the first is that in which it was made."""

    whole: Operand
    parts: dict[Cut, Sequence[Operand]]
    joined: bool = False

    @property
    def lies(self) -> Cut:
        return next(iter(self.parts))


@dataclass(frozen=True)
class _Way:
    """How a step is cut: its outputs, and its inputs by slot."""

    outputs: Cut
    inputs: Mapping[int, Cut]
    effort: int  # local steps beside it


@dataclass
class Cutting:
    """Cuts the steps of one plan for so many lanes."""

    opset: int
    lanes: int
    steps: list[Step] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)  # by steps

    def run(self, plan: Plan) -> list[Step]:
        for step in plan.steps:
            way = None if step.constant or step.checks else self._best(step)
            parts = None if way is None else self._parts(step, way)
            if way is None or parts is None:
                self._whole(step)
            else:
                self._apart(step, way, parts)
            self.made.update(step.outputs)
        for output in plan.outputs:
            self._join(output.name)
        return self.steps

    # ---- a step for all rows ----------------------------------------------------------------------------

    def _whole(self, step: Step) -> None:
        for name in step.reads:
            self._join(name)
        self.steps.append(step)

    def _join(self, name: str) -> None:
        value = self.values.get(name)
        if value is None or value.joined:
            return
        value.joined = True
        self._add(JOIN, value.parts[value.lies], value.whole, {"axis": value.lies[0]})

    def _add(
        self, operator: Operator, inputs: Sequence[Operand], made: Operand, attributes: dict[str, Any]
    ) -> None:
        self.steps.append(local_step(operator, inputs, made, attributes, self.opset))

    # ---- a step for each lane ---------------------------------------------------------------------------

    def _best(self, step: Step) -> _Way | None:
        """The way with the fewest steps beside it; None where all rows are computed at once."""
        call = step.call
        begins = not any(name in self.values for name in step.reads)
        if begins and not step.cost.rounds:
            return None
        given = Given([True] * len(call.inputs), [self._lies(o) for o in call.inputs])
        axes = len(call.outputs[0].shape) - begins  # features stay together, as norms and products read them
        ways = [self._way(call, axis, given) for axis in range(axes)]
        return min((way for way in ways if way is not None), key=lambda way: way.effort, default=None)

    def _lies(self, operand: Operand | None) -> int | None:
        value = None if operand is None else self.values.get(operand.name)
        return None if value is None else value.lies[0]

    def _way(self, call: Call, axis: int, given: Given) -> _Way | None:
        found = ends(call, axis, given)
        size = call.outputs[0].shape[axis]
        if found is None or any(o.shape[axis] != size for o in call.outputs):
            return None
        lying = [
            _scaled(self.values[o.name].lies[1], size)
            for slot, place in found.axes.items()
            if (o := call.given(slot)).name in self.values and self.values[o.name].lies[0] == place
        ]
        cuts = lying[0] if lying else tuple(size * lane // self.lanes for lane in range(self.lanes + 1))
        if cuts is None or (not lying and size < ROWS * self.lanes):
            return None
        inputs, effort = {}, 0
        for slot, operand in enumerate(call.inputs):
            place = found.axes.get(slot)
            if operand is None:
                continue
            value = self.values.get(operand.name) if operand.secret else None
            if place is None:
                effort += value is not None and not value.joined
                continue
            own = _scaled(cuts, operand.shape[place])
            if own is None or operand.form is SecretIds or self._stays(operand):
                return None
            inputs[slot] = place, own
            if operand.secret and (value is None or (place, own) not in value.parts):
                effort += self.lanes + (value is not None and not value.joined)
        return _Way((axis, cuts), inputs, effort)

    def _stays(self, operand: Operand) -> bool:
        """Whether it is a weight as the servers hold it, which may be read from a file as it is used."""
        return operand.weight and operand.secret and operand.name not in self.made

    def _parts(self, step: Step, way: _Way) -> list[Step] | None:
        """The steps of the lanes; None where a kernel would leave its results in another format, or where the
        parts cost more than the whole."""
        call, parts = step.call, []
        # The lanes share the rate of a link.
        network = replace(call.network, bandwidth=call.network.bandwidth / self.lanes)
        for lane in range(self.lanes):
            inputs = list(call.inputs)
            for slot, cut in way.inputs.items():
                inputs[slot] = _part(call.given(slot), cut, lane)
            outputs = tuple([_part(o, way.outputs, lane) for o in call.outputs])
            names = tuple([_own_name(name, way.outputs, lane) if name else "" for name in step.outputs])
            made = altered(call, inputs=tuple(inputs), outputs=outputs, network=network)
            part = Step(step.index, step.operator, made, names, step.resolves, False, lane)
            if part.result != step.result or part.cost.rounds > step.cost.rounds:
                return None
            parts.append(part)
        return parts if sum(part.cost.bits for part in parts) <= DEARER * step.cost.bits else None

    def _apart(self, step: Step, way: _Way, parts: Sequence[Step]) -> None:
        for slot, operand in enumerate(step.call.inputs):
            if operand is None or not operand.secret:
                continue
            if slot in way.inputs:
                self._parted(operand, way.inputs[slot])
            else:
                self._join(operand.name)
        self.steps += parts
        made = zip(*(resting(part, part.call.outputs) for part in parts), strict=True)
        wholes = zip(step.outputs, resting(step, step.call.outputs), made, strict=True)
        for name, whole, operands in wholes:
            if name:
                self.values[name] = _Value(whole, {way.outputs: operands})

    def _parted(self, operand: Operand, cut: Cut) -> None:
        value = self.values.get(operand.name)
        if value is None:
            value = self.values[operand.name] = _Value(operand, {}, joined=True)
        if cut in value.parts:
            return
        self._join(operand.name)
        value.parts[cut] = [_part(operand, cut, lane) for lane in range(self.lanes)]
        axis, cuts = cut
        for lane, part in enumerate(value.parts[cut]):
            size = cuts[lane + 1] - cuts[lane]
            self._add(PART, [operand], part, {"axis": axis, "start": cuts[lane], "size": size})


def _own_name(name: str, cut: Cut, lane: int) -> str:
    return f"{name} in lane {lane} along {cut[0]}, {cut[1][lane]} to {cut[1][lane + 1]}"


def _scaled(cuts: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The same cuts of an axis of another size; None where one would go through an element."""
    if any(cut * size % cuts[-1] for cut in cuts):
        return None
    return tuple(cut * size // cuts[-1] for cut in cuts)


def _part(operand: Operand, cut: Cut, lane: int) -> Operand:
    """A lane's rows of an operand."""
    axis, cuts = cut
    index = (*(slice(None),) * axis, slice(cuts[lane], cuts[lane + 1]))
    shape = (*operand.shape[:axis], cuts[lane + 1] - cuts[lane], *operand.shape[axis + 1 :])
    changes: dict[str, Any] = {"shape": shape}
    if operand.value is not None:
        changes |= {"value": operand.value[index], "seen": None}
    elif operand.name:
        changes["name"] = _own_name(operand.name, cut, lane)
    if operand.beside is not None:
        changes["beside"] = np.broadcast_to(operand.beside, operand.shape)[index]
    return altered(operand, **changes)
