"""The proofs for a plan: each range that a step relies on, compared with the bounds of the quantity read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.limits import Limit
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.compile import survey
from onnxpuma.plan.plan import Plan, Selection, Step

PROVED = "proved"  # by bounds, for every input
CALIBRATED = "calibrated"  # it held on the owner's samples
CHECKED = "checked"  # every run checks the values read (`needs`) and tells its client
HOPED = "hoped"


@dataclass(frozen=True)
class Reading:
    """One range of one step."""

    step: Step
    limit: Limit
    # The proved bound of the quantity; infinite where nothing is known.
    stays: float
    # PROVED, CALIBRATED, CHECKED or HOPED.
    state: str
    # The conditions on the operands that would prove it.
    needs: tuple[Need, ...] = ()

    @property
    def node(self) -> str:
        return self.step.call.node.name

    @property
    def operator(self) -> str:
        return self.step.operator.name


@dataclass(frozen=True)
class RangeEntry:
    """One reading that is not proved."""

    node: str
    operator: str
    quantity: str
    # The proved bound of the quantity; None where nothing is known.
    stays: float | None
    range: str
    state: str


@dataclass(frozen=True)
class RangeReport:
    """The readings of a plan, counted, and those that are not proved."""

    readings: int
    # State -> the number of readings.
    states: dict[str, int]
    unproved: list[RangeEntry] = field(repr=False)
    # Inputs without a declared range, if declaring them proves more readings.
    undeclared: list[str] = field(default_factory=list)
    # The number of readings that would be proved if those inputs lay between -1 and 1.
    with_ranges: int = 0

    @property
    def proved(self) -> int:
        return self.states.get(PROVED, 0)


def examined(
    blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]], public_values: Mapping[str, np.ndarray]
) -> RangeReport:
    """The ranges at these shapes, for the nodes that can run, and which are proved. Cost: one to three plans.

    Inputs whose kept values are known to be in range are assumed to be filled with these. Raises as `survey`.
    """
    bare = replace(blueprint, checked=False)
    held = tuple(name for name in blueprint.inputs if name in blueprint.facts)
    chosen = Selection(tuple(blueprint.own_outputs), held=held)
    readings = readings_of(survey(bare, shapes, public_values, chosen)[0], blueprint)
    if blueprint.checked and any(reading.state != PROVED for reading in readings):
        assumed = readings_of(survey(blueprint, shapes, public_values, chosen)[0], blueprint)
        readings = _following(readings, assumed)
    states: dict[str, int] = {}
    for reading in readings:
        states[reading.state] = states.get(reading.state, 0) + 1
    entries = [_entry(reading) for reading in readings if reading.state != PROVED]
    open_inputs = [
        name
        for name, spec in blueprint.inputs.items()
        if spec.secret and spec.dtype.kind == "f" and spec.declared is None and name not in held
    ]
    found = RangeReport(len(readings), states, entries)
    if not entries or not open_inputs:
        return found
    small = replace(bare, declared={**bare.declared, **{name: [-1.0, 1.0] for name in open_inputs}})
    after = readings_of(survey(small, shapes, public_values, chosen)[0], blueprint)
    proved = sum(reading.state == PROVED for reading in after)
    return replace(found, undeclared=open_inputs, with_ranges=proved) if proved > found.proved else found


def readings_of(plan: Plan, blueprint: Blueprint) -> list[Reading]:
    """The ranges of all steps that depend on the request, in the order of the plan."""
    found = []
    for step in plan.steps:
        calibrated = blueprint.ranges.get(step.call.node.name, {})
        if not step.constant and not step.checks:
            found += [
                _reading(step, limit, limit.key in calibrated, blueprint.checked) for limit in limits_of(step)
            ]
    return found


def _following(readings: Sequence[Reading], assumed: Sequence[Reading]) -> list[Reading]:
    """The readings, where those that follow from earlier checks (`assumed`) count as checked."""
    follows = {(r.node, r.limit.what) for r in assumed if r.state in (PROVED, CHECKED)}
    return [
        replace(r, state=CHECKED) if r.state != PROVED and (r.node, r.limit.what) in follows else r
        for r in readings
    ]


def unproved(readings: Sequence[Reading]) -> list[Reading]:
    """The readings that are calibrated, checked or hoped."""
    return [reading for reading in readings if reading.state != PROVED]


def _reading(step: Step, limit: Limit, calibrated: bool, checked: bool) -> Reading:
    stays = limit.stays(step.call)
    if limit.proved(step.call):
        return Reading(step, limit, stays, PROVED)
    needs = tuple(limit.needs(step.call)) if limit.below < math.inf else ()
    state = CHECKED if needs and checked else CALIBRATED if calibrated else HOPED
    return Reading(step, limit, stays, state, needs)


def _entry(reading: Reading) -> RangeEntry:
    stays = reading.stays if math.isfinite(reading.stays) else None
    limit = reading.limit
    return RangeEntry(reading.node, reading.operator, limit.what, stays, limit.bounds, reading.state)
