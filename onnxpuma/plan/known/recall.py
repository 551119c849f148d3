"""What an earlier plan found at a node, used again where all that planning the node reads is the same.

The plan for one more token differs from the last one in few nodes: those that see the length of the cache or
the position. Planning a node as a step is a function of the values that it reads, and of what is the same for
all plans of one graph and one selection. So it is enough to note those values, and what planning it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import Step

LARGEST = 1 << 14  # elements of a public array that is compared element by element


@dataclass(frozen=True, slots=True)
class _Found:
    """What planning a node read, and what it changed."""

    node: Node
    # It became one or more steps, and nothing but the following changed.
    whole: bool
    read: dict[str, Known | None]
    made: dict[str, Known]
    steps: list[Step]
    watched: list[tuple[Operand, Need, Operand | None]]


class Recall:
    """What the last plan of one graph, selection and network found at its nodes."""

    def __init__(self) -> None:
        self._start: dict[str, Known] = {}
        self._found: dict[str, _Found] = {}

    def start(self, state: State) -> None:
        """Call it when inputs and constants are entered: those that are as before become the same objects."""
        for name, known in list(state.values.items()):
            before = self._start.get(name)
            if before is not None and _same(before, known):
                state.values[name] = before
        self._start = dict(state.values)

    def plan(self, state: State, node: Node, visit: Callable[[State, Node], bool]) -> None:
        """Plan a node: as before, or by `visit`, which tells whether it planned this node alone."""
        before = self._found.get(node.name)
        if before is not None and before.node is node and before.whole:
            held = state.values.held
            if all(held(name) is known for name, known in before.read.items()):
                state.budget.check_time()
                state.watched.noted = []
                state.values.update(before.made)
                state.steps += before.steps
                for operand, need, divisor in before.watched:
                    state.watched.add(operand, need, divisor)
                return
        first, others = len(state.steps), _others(state)
        read, made = state.values.noted()
        watched: list[tuple[Operand, Need, Operand | None]] = []
        state.watched.noted = watched
        alone = visit(state, node)
        whole = alone and len(state.steps) > first and others == _others(state)
        if before is not None:
            for name, known in made.items():
                again = before.made.get(name)
                if again is not None and _same(again, known):
                    state.values[name] = again
        steps = state.steps[first:]
        self._found[node.name] = _Found(node, whole, dict(read), dict(made), steps, list(watched))


def _others(state: State) -> tuple[int, ...]:
    """Changes where they are, the sizes of what a step usually leaves alone."""
    return len(state.inputs), len(state.refusals), len(state.client_nodes), state.revised


def _same(one: Known, other: Known) -> bool:
    """Whether two values are known alike, so that planning a reader has the same result."""
    if one is other:
        return True
    plain = (one.type, one.client, one.constant, one.bound) == (
        other.type,
        other.client,
        other.constant,
        other.bound,
    )
    return plain and _equal(one.value, other.value) and _alike(one.operand, other.operand)


def _alike(one: Operand | None, other: Operand | None) -> bool:
    if one is None or other is None:
        return one is other
    if not (_equal(one.value, other.value) and _equal(one.beside, other.beside)):
        return False
    arrays = ("value", "beside")
    mine, theirs = vars(one), vars(other)
    return all(mine[name] == theirs.get(name) for name in mine if name not in arrays)


def _equal(one: np.ndarray[Any, Any] | None, other: np.ndarray[Any, Any] | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape or one.size > LARGEST:
        return False
    return one.tobytes() == other.tobytes() if one.dtype.kind != "O" else False
