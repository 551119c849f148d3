"""Products that turn out to have to be truncated after all, when the one who reads them is planned.

Whether a reader takes a product as it is can depend on its other operands, of which some are planned after
it: a term that a secret mask puts far out leaves no room at the scale of a product.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.registry import Call, Operator, altered
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import Step


class Planned(Protocol):
    """What of the walk is needed here."""

    steps: list[Step]
    values: dict[str, Known]


def taken(walk: Planned, call: Call, operator: Operator) -> Call:
    """The call with operands as its operator takes them; those who made one truncate it where it does not."""
    inputs = list(call.inputs)
    for place, operand in enumerate(call.inputs):
        if (
            operand is None
            or not operand.deferred
            or operand.form is SecretIds
            or operator.defers(call, place)
        ):
            continue
        number = next(n for n, step in enumerate(walk.steps) if operand.name in step.outputs)
        step = walk.steps[number]
        resolves = (r or name == operand.name for r, name in zip(step.resolves, step.outputs, strict=True))
        walk.steps[number] = replace(step, resolves=tuple(resolves))
        resting = altered(operand, form=Replicated, fraction=operand.resting)
        walk.values[operand.name] = replace(walk.values[operand.name], operand=resting)
        inputs[place] = resting
    return altered(call, inputs=tuple(inputs))
