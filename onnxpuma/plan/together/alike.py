"""Whether the operands of several requests, and the formats of their results, allow one step for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.registry import Call, Operand, altered
from onnxpuma.plan.plan import Step

T = TypeVar("T")
# Of an operand, what may differ between requests whose values lie end to end.
_OWN = ("name", "shape", "value", "seen", "beside", "bound", "content")


def different(items: Sequence[T]) -> list[T]:
    """The items, without those that are the first itself or stand twice."""
    return list({id(item): item for item in items[1:] if item is not items[0]}.values())


def alike(one: Call, other: Call) -> bool:
    """Whether two requests' calls differ in nothing but their operands."""
    nodes = one.node is other.node or one.node.attribute_key == other.node.attribute_key
    operands = zip(one.inputs, other.inputs, strict=True)
    return (
        nodes
        and dict(one.bounds) == dict(other.bounds)
        and all(
            (a is None) == (b is None) and (a is None or b is None or a.secret == b.secret)
            for a, b in operands
        )
    )


def equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def fits(operands: Sequence[Operand], axis: int, but: Sequence[str] = (), filled: int | None = None) -> bool:
    """Whether these may lie end to end: they differ in their size along the axis, and in nothing else.

    filled: another axis along which they may differ, as they are filled up there."""
    first = operands[0]
    if axis >= len(first.shape) or (first.form is SecretIds and math.prod(first.shape[:axis]) != 1):
        return False
    free = (*_OWN, *but)
    facts = {key: value for key, value in first.__dict__.items() if key not in free}
    rest = _besides(first.shape, axis, filled)
    return all(
        _besides(o.shape, axis, filled) == rest
        and (first.form is not SecretIds or math.prod(o.shape[:axis]) == 1)
        and all(o.__dict__[key] == value for key, value in facts.items())
        for o in different(operands)
    )


def _besides(shape: tuple[int, ...], *axes: int | None) -> list[int]:
    """The sizes of the other axes; -1 in place of these."""
    return [-1 if axis in axes else size for axis, size in enumerate(shape)]


def formatted(steps: Sequence[Step], fused: Call) -> Call | None:
    """The call with the formats that its kernel leaves its outputs in; None where a request's readers expect
    others. They expect none in particular of a value that is truncated first."""
    result = steps[0].operator.result(fused)
    outputs = []
    for number, whole in enumerate(fused.outputs):
        format = result.format or whole.resting
        for step in (steps[0], *different(steps)):
            planned = step.call.outputs[number]
            usual = step.result
            if planned.format != (usual.format or planned.resting) or planned.form is not usual.form:
                return None
            if (format, result.form) != (planned.format, planned.form) and not step.resolves[number]:
                return None
        outputs.append(altered(whole, format=format, form=result.form))
    return altered(fused, outputs=tuple(outputs))


def resting(step: Step, outputs: Sequence[Operand]) -> list[Operand]:
    """Outputs as their readers find them: those that the step truncates are at rest."""
    return [
        altered(o, form=Replicated, format=o.resting) if resolved else o
        for o, resolved in zip(outputs, step.resolves, strict=True)
    ]
