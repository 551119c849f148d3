"""Which streamed weights a run reads, and in which order: it is known before the run begins."""

from __future__ import annotations

from collections.abc import Collection

from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.plan.plan import Plan, Step, spans

_PLACES = {"MatMul": (1, 0), "Gemm": (1, 0), "Gather": (0, 1)}  # the streamed operand, and the one beside it


def reads(plan: Plan, streamed: Collection[str]) -> list[str]:
    """The weights among `streamed` that the products and look-ups of a run take, in the order in which the
    steps start; one that two steps take stands twice."""
    if not streamed:
        return []
    origin = {name: name for name in streamed}
    starts = [start for start, _ in spans(plan.steps)]
    found: list[tuple[int, int, str]] = []
    for step, start in zip(plan.steps, starts, strict=True):
        name = _taken(step, origin)
        if step.constant:
            if name is not None:
                origin.update(dict.fromkeys(step.outputs, name))
        elif name is not None:
            found.append((start, step.index, name))
    return [name for *_, name in sorted(found)]


def _taken(step: Step, origin: dict[str, str]) -> str | None:
    """The weight that a step takes, in place or as a stream; None if it takes none."""
    call = step.call
    if step.constant:
        moved = step.operator.name in ("Transpose", "Identity")
        return origin.get(call.given(0).name) if moved else None
    place, beside = _PLACES.get(step.operator.name, (0, 0))
    if place == beside or not call.secret(beside):
        return None
    operand, other = call.operand(place), call.operand(beside)
    if operand is None or (step.operator.name == "Gather" and (other is None or other.form is not SecretIds)):
        return None
    return origin.get(operand.name)
