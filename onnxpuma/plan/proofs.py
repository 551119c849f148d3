"""What is proved of a plan: each range that a step reads in, held against what bounds say of the quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.limits import Limit
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.clear import limits_of
from onnxpuma.plan.plan import Plan, Step

PROVED = "proved"
CALIBRATED = "calibrated"
TO_CHECK = "to check"
HOPED = "hoped"


@dataclass(frozen=True)
class Reading:
    """One range of one step. stays: what the quantity cannot exceed, infinite where nothing is known.

    state: "proved"; "calibrated", where the owner's samples alone say so; "to check", where lengths of rows
    or sizes of elements that can be checked (`needs`) would keep it inside; else "hoped".
    """

    step: Step
    limit: Limit
    stays: float
    state: str
    needs: tuple[Need, ...] = ()

    @property
    def node(self) -> str:
        return self.step.call.node.name

    @property
    def operator(self) -> str:
        return self.step.operator.name


def readings_of(plan: Plan, blueprint: Blueprint) -> list[Reading]:
    """Every range of every step that depends on the request, in the order of the plan."""
    found = []
    for step in plan.steps:
        calibrated = blueprint.ranges.get(step.call.node.name, {})
        if not step.constant:
            found += [_reading(step, limit, limit.key in calibrated) for limit in limits_of(step)]
    return found


def unproved(readings: Sequence[Reading]) -> list[Reading]:
    """Those that only samples, a check or hope stands for."""
    return [reading for reading in readings if reading.state != PROVED]


def _reading(step: Step, limit: Limit, calibrated: bool) -> Reading:
    if limit.proved(step.call):
        return Reading(step, limit, limit.stays(step.call), PROVED)
    stays = limit.stays(step.call)
    needs = tuple(limit.needs(step.call)) if limit.below < math.inf and _is_lower_kept(step, limit) else ()
    state = CALIBRATED if calibrated else TO_CHECK if needs else HOPED
    return Reading(step, limit, stays, state, needs)


def _is_lower_kept(step: Step, limit: Limit) -> bool:
    """Whether nothing but the upper end is in doubt: what can be checked is how large numbers are."""
    return limit.least <= 0 or limit.falls(step.call) >= limit.least
