"""The ranges that a step relies on: its operator's, and one for each product that is not truncated yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.limits import Limit, of_output
from onnxpuma.ops.needs import of_result
from onnxpuma.ops.registry import Call, Operator
from onnxpuma.plan.plan import Step

_limits: WeakKeyDictionary[Step, Sequence[Limit]] = WeakKeyDictionary()


def limits_of(step: Step) -> Sequence[Limit]:
    """The ranges that a step relies on, found once."""
    found = _limits.get(step)
    if found is None:
        found = _limits[step] = limits_in(step.call, step.operator)
    return found


def limits_in(call: Call, operator: Operator) -> list[Limit]:
    """The ranges of a call: its operator's, and for each untruncated product the one that a word holds."""
    limits = list(operator.limits(call))
    tightest = min((limit.below for limit in limits if limit.what == "|result|"), default=np.inf)
    for place, operand in enumerate(call.outputs):
        below = operand.format.largest
        if operand.deferred and operand.dtype.kind == "f" and below < tightest:
            stays = _size_of_output(place)
            limits.append(Limit("|result|", of_output(place), below, stays=stays, needs=_needs(below)))
    return limits


def _size_of_output(place: int) -> Callable[[Call], float]:
    return lambda call: call.outputs[place].bound.size


def _needs(below: float) -> Callable[[Call], Sequence[Need]]:
    return lambda call: of_result(call, below)
