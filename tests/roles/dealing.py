"""The buffers that a client deals, for tests that change words in them."""

from __future__ import annotations

from typing import Any

from onnxpuma.plan.plan import Plan

Private = list[list[Any]]


def place_of(plan: Plan, name: str, second: bool) -> int:
    """The index, among the private buffers, of the first one of a component of this input."""
    place = 0
    for entry in plan.inputs:
        each = 3 if entry.depth else 1
        if entry.name == name:
            return place + each * second
        place += 2 * each
    raise KeyError(name)
