"""Late public inputs in the next plan: every token has others, and all are planned alike.

Planning sees little of such an input (ops/late.py). Steps that were planned with those of an earlier plan are
therefore those of this plan, once its own are put into them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias

from onnxpuma.graph.model import Node
from onnxpuma.ops.content import content_of_node
from onnxpuma.ops.late import Late, inputs_at, is_late
from onnxpuma.ops.registry import Operand, altered, find
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import Step

# By the ids of these values.
_Seen: TypeAlias = "dict[tuple[object, ...], tuple[Sequence[Known | None], Hashable]]"


class Tables:
    """What planning sees of the late inputs of the last plan and of the one in the making."""

    def __init__(self) -> None:
        self._seen: _Seen = {}
        self._before: _Seen = {}

    def begin(self) -> None:
        """Begin a plan: inputs that the last one did not look at are forgotten."""
        self._before, self._seen = self._seen, {}

    def stand(self, state: State, read: Mapping[str, Known | None], nodes: Iterable[Node]) -> bool:
        """Whether the values that were read for these nodes are the same objects now, or late inputs of them
        that are planned alike. nodes: of those that read such values, only steps."""
        changed = {name for name, known in read.items() if state.values.held(name) is not known}
        left = set(changed)
        for node in nodes:
            names = changed.intersection(node.reads)
            if not names:
                continue
            late = None if (operator := find(node)) is None else operator.late
            if late is None or not names.issubset(inputs_at(node.inputs, late.places)):
                return False
            before = {name: read[name] for name in names}
            if not all(_alike(known, state.values.held(name)) for name, known in before.items()):
                return False
            seen = self._see(state, node, late, before)
            if seen is None or seen != self._see(state, node, late, {}):
                return False
            left -= names
        return not left

    def _see(self, state: State, node: Node, late: Late, before: Mapping[str, Known | None]) -> Hashable:
        """What planning sees of the late inputs of this node. before: values in place of those of now."""

        known = [None if n is None else before.get(n) or state.values.held(n) for n in node.inputs]
        shapes = [None if one is None else one.shape for one in known]
        given = inputs_at(known, late.places)
        key = content_of_node(node), *map(id, given), *shapes
        found = self._seen.get(key) or self._before.get(key)
        if found is None:
            values = [None if one is None else one.value for one in given]
            found = given, late.seen(node, values, shapes)
        self._seen[key] = found
        return found[1]


def takes_late(step: Step) -> bool:
    """Whether a step takes late inputs."""
    return step.operator.late is not None and is_late(step.call, step.operator.late)


def with_own_tables(state: State, steps: Sequence[Step]) -> list[Step]:
    """The steps with the late inputs of this plan. Those that have these already stay the same objects."""
    tables: dict[tuple[str, Hashable], Operand] = {}
    return [_own(state, step, tables) if takes_late(step) else step for step in steps]


def _own(state: State, step: Step, tables: dict[tuple[str, Hashable], Operand]) -> Step:
    inputs, changed = list(step.call.inputs), False
    for place, operand in enumerate(inputs):
        if operand is None or operand.seen is None:
            continue
        known = state.values.held(operand.name)
        if known is not None and known.value is not None and known.value is not operand.value:
            key = operand.name, operand.seen
            if key not in tables:
                tables[key] = altered(known.public(operand.name), seen=operand.seen)
            inputs[place], changed = tables[key], True
    return step.reading(inputs) if changed else step


def _alike(one: Known | None, other: Known | None) -> bool:
    if one is None or other is None or one.value is None or other.value is None:
        return False
    return one is other or (one.type, one.constant) == (other.type, other.constant)
