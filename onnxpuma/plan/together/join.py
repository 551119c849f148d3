"""The plans of several requests become the plan of one run.

Requests of one graph have the same steps at different sizes. Where rows.py says that a step may compute the
requests' values at once, they lie end to end and the run has the step once. Elsewhere it has the step for
each request, under the request's own names: the attention of prompts of different lengths, and the range
check, whose verdict is each request's own. All steps of the run share their rounds either way. A request
computes what its own plan says, so nothing has to be assumed of a model.

This is selective batching [Orca], on shares.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.together.group import Group, own_name

REMEMBERED = 32  # joint plans


def joint_plan(plans: Sequence[Plan]) -> Plan:
    """One plan that runs all of these, which are of one graph, for one network.

    The run reads and makes each request's values under `own_name(name, number)`: inputs, by `operand`, and
    outputs. Cost: the rounds of the longest plan, where all have the same steps, and a few more where a
    comparison of more elements takes them in parts; no more bits than all plans together.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(_course(plan), []).append(number)
    steps: list[Step] = []
    seen: set[tuple[str, ...]] = set()
    for members in groups.values():
        steps += Group(members, [plans[number] for number in members], seen).run()
    outputs = [
        replace(output, name=own_name(output.name, number))
        for number, plan in enumerate(plans)
        for output in plan.outputs
        if output.secret
    ]
    numbered = tuple(step.numbered(index) for index, step in enumerate(steps))
    first = plans[0]
    return Plan(first.model_digest, numbered, (), (), tuple(outputs), (), {}, first.opset, first.network)


class Joints:
    """The joint plans that were made last: requests of the same plans have the same one."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[int, ...], tuple[list[Plan], Plan]] = OrderedDict()

    def get(self, plans: Sequence[Plan]) -> Plan:
        """As `joint_plan`."""
        key = tuple(map(id, plans))
        found = self._made.get(key)
        if found is None:  # the plans stay alive with it, so that no other plan gets their ids
            found = self._made[key] = list(plans), joint_plan(plans)
            if len(self._made) > REMEMBERED:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return found[1]


def _course(plan: Plan) -> tuple[object, ...]:
    """Which nodes run, in which order. The range check is each request's own, and does not count."""
    return tuple(
        (step.operator.name, step.call.node.name, step.outputs) for step in plan.steps if not step.checks
    )
