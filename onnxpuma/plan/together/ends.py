"""How operands of several requests must lie so that a step may compute them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from onnxpuma.ops.registry import Call, Operand


@dataclass(frozen=True)
class Filling:
    """Places that a step leaves out, at the end of an axis."""

    axis: int
    fill: float = 0.0  # of public operands; secret ones have zeros


@dataclass(frozen=True)
class Ends:
    """Input -> the axis along which the requests' operands must lie end to end. All other inputs must be the
    same for every request, but for those in `unread`."""

    axes: dict[int, int]
    unread: tuple[int, ...] = field(default=())
    # Input -> another axis along which a request may have fewer places, and what fills them up.
    fillings: dict[int, Filling] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What is known of the inputs, by place."""

    same: Sequence[bool]  # all requests read the same value
    lies: Sequence[int | None]  # the axis along which the requests' values lie end to end already


Rule: TypeAlias = Callable[[Call, int, Given], Ends | None]


def shape(call: Call, slot: int) -> tuple[int, ...]:
    return call.given(slot).shape


def present(call: Call) -> list[tuple[int, Operand]]:
    return [(slot, o) for slot, o in enumerate(call.inputs) if o is not None]


def aligned(call: Call, axis: int, given: Given, slots: Sequence[int], out: Sequence[int]) -> Ends | None:
    """Operands that are stretched to one shape: those that have the axis, counted from the right."""
    found = {}
    for slot in slots:
        own = shape(call, slot)
        place = axis - (len(out) - len(own))
        if place < 0 or (own[place] == 1 and given.same[slot]):
            continue
        if own[place] != out[axis]:
            return None
        found[slot] = place
    return Ends(found) if found else None
