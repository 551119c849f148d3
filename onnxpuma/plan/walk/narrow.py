"""Refusals by name, where the values of a model rest in fewer bits than a word (plan/narrow.py)."""

from __future__ import annotations

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.ops.registry import Call, Operator
from onnxpuma.plan.narrow import is_narrow
from onnxpuma.plan.walk.parts import Refused

_ABOVE = 6  # bits that a scaled result needs above the point


def check_ring(operator: Operator, resting: Format) -> None:
    """Refuse an operator whose protocols need words of all bits."""
    if is_narrow(resting) and not operator.narrow:
        raise Refused(
            f"it computes on words of {RESTING.bits} bits, and this model's values rest in {resting.bits}"
        )


def check_room(call: Call) -> None:
    """Refuse a result that public factors leave with too few bits above the point."""
    for output in call.outputs:
        if output.format.fraction > output.format.bits - _ABOVE and is_narrow(output.format):
            raise Refused(
                f"its result has {output.format.fraction} fraction bits, which leave too few of"
                f" {output.format.bits} bits above the point"
            )
