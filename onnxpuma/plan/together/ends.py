"""How operands of several requests must lie so that a step may compute them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

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


def sizes(operands: Sequence[Operand], axis: int) -> list[int]:
    """The sizes along an axis."""
    return [operand.shape[axis] for operand in operands]


def needed(operands: Sequence[Operand], filling: Filling | None) -> Filling | None:
    """The filling, if these differ in size along its axis."""
    if filling is None or len(set(sizes(operands, filling.axis))) == 1:
        return None
    return filling


def filled_up(value: np.ndarray, shape: Sequence[int], filling: Filling | None) -> np.ndarray:
    """A public value with as many places as the shape has along the axis that is filled up."""
    if filling is None:
        return value
    widths = [(0, 0)] * value.ndim
    widths[filling.axis] = (0, shape[filling.axis] - value.shape[filling.axis])
    return np.pad(value, widths, constant_values=filling.fill)
