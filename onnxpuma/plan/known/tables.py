"""Public tables of rotary embeddings: every token has others, and all are planned alike.

Planning sees little of such a table: its scale, and how much longer it makes a pair (ops/rotary.py). Steps
that were planned with the tables of an earlier plan are therefore those of this plan, once its own tables are
put into them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias

from onnxpuma.graph.model import Node
from onnxpuma.ops.registry import Operand
from onnxpuma.ops.rotary import seen_of_tables
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import Step

_OPERATOR = "RotaryEmbedding"
_PLACES = (1, 2)  # of cosines and sines

_Seen: TypeAlias = (
    "dict[tuple[int, ...], tuple[Sequence[Known | None], Hashable]]"  # the ids of tables -> they
)


class Tables:
    """What planning sees of the tables of the last plan and of the one in the making."""

    def __init__(self) -> None:
        self._seen: _Seen = {}
        self._before: _Seen = {}

    def begin(self) -> None:
        """Begin a plan: tables that the last one did not look at are forgotten."""
        self._before, self._seen = self._seen, {}

    def stand(self, state: State, read: Mapping[str, Known | None], nodes: Iterable[Node]) -> bool:
        """Whether the values that were read for these nodes are the same objects now, or tables of them that
        are planned alike. nodes: of those that read tables, only steps."""
        changed = {name for name, known in read.items() if state.values.held(name) is not known}
        left = set(changed)
        for node in nodes:
            names = changed.intersection(node.reads)
            if not names:
                continue
            if not _is_plain(node) or not names.issubset([node.inputs[place] for place in _PLACES]):
                return False
            now = [state.values.held(node.inputs[place] or "") for place in _PLACES]
            before = [read.get(node.inputs[place] or "") for place in _PLACES]
            if not all(map(_alike, before, now)):
                return False
            seen = self._see(before)
            if seen is None or seen != self._see(now):
                return False
            left -= names
        return not left

    def _see(self, tables: Sequence[Known | None]) -> Hashable:
        """What planning sees of cosines and sines."""
        key = tuple(map(id, tables))
        found = self._seen.get(key) or self._before.get(key)
        if found is None:
            cosines, sines = [t.value for t in tables if t is not None and t.value is not None]
            found = tables, seen_of_tables(cosines, sines)
        self._seen[key] = found
        return found[1]


def with_own_tables(state: State, steps: Sequence[Step]) -> list[Step]:
    """The steps with the tables of this plan. Those whose tables are these already stay the same objects."""
    return [_own(state, step) if step.operator.name == _OPERATOR else step for step in steps]


def _own(state: State, step: Step) -> Step:
    inputs = tuple([o if o is None or o.secret else _table(state, o) for o in step.call.inputs])
    if all(map(lambda a, b: a is b, inputs, step.call.inputs)):
        return step
    return step.reading(inputs)


def _table(state: State, operand: Operand) -> Operand:
    value = state.values.held(operand.name)
    if value is None or value.value is None or value.value is operand.value:
        return operand
    return value.public(operand.name)


def _is_plain(node: Node) -> bool:
    """Whether it rotates by tables without positions."""
    return node.op == _OPERATOR and not node.domain and len([n for n in node.inputs if n]) == 3


def _alike(one: Known | None, other: Known | None) -> bool:
    if one is None or other is None or one.value is None or other.value is None:
        return False
    return one is other or (one.type, one.constant) == (other.type, other.constant)
