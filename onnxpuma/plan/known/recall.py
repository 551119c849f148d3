"""What the last plan found, used again where all that planning looks at is the same.

The plan for one more token differs from the last one in few nodes: those that see the length of the cache or
the position. Planning a node is a function of the values that it reads, and of what is the same for all plans
of one graph and one selection. So it is enough to note those values, and what planning it changed. Values and
steps that turn out as before become the same objects, so what follows from them alone is found again by their
identity: later nodes, formats (decisions.py), and what steps keep of themselves, as prices and digests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import is_

from onnxpuma.graph.model import Node
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.content import Content
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.known.decisions import Decisions
from onnxpuma.plan.known.numbering import Numbering
from onnxpuma.plan.known.outline import Outline
from onnxpuma.plan.known.sameness import kept, same
from onnxpuma.plan.known.state import Settled, State
from onnxpuma.plan.known.tables import Tables
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.known.whole import Whole
from onnxpuma.plan.plan import Selection, Step


@dataclass(frozen=True, slots=True)
class _Found:
    """What planning a node read, and what it changed."""

    node: Node
    # It became one or more steps, or public values, and nothing but the following changed.
    whole: bool
    read: dict[str, Known | None]
    made: dict[str, Known]
    steps: list[Step]
    watched: list[tuple[Operand, Need, Operand | None]]
    # Where it became one step.
    settled: Settled | None


class Recall:
    """What the last plan of one graph, selection and network found."""

    def __init__(self) -> None:
        self.narrowing = Decisions()
        self.doubling = Decisions()
        self.resting = Decisions()
        self.terms = Decisions()
        self.numbering = Numbering()
        self.tables = Tables()
        # The last plan that was finished.
        self.whole: Whole | None = None
        self._outline: Outline | None = None
        self._constants: dict[str, Known] = {}
        self._start: dict[str, Known] = {}
        self._found: dict[str, _Found] = {}
        self._contents: list[list[Content]] = []  # of the last plan and the one in the making

    def outline(self, blueprint: Blueprint, selection: Selection) -> Outline:
        """What follows from the graph and the selection alone."""
        if self._outline is None:
            self._outline = Outline.of(blueprint, selection)
        return self._outline

    def constants(self, state: State, enter: Callable[[State], dict[str, Known]]) -> None:
        """Enter the constants: those that `enter` finds in the first plan."""
        if not self._constants:
            self._constants = enter(state)
        state.values.update(self._constants)

    def start(self, state: State) -> None:
        """Call it when inputs and constants are entered: those that are as before become the same objects."""
        for name, known in list(state.values.items()):
            before = self._start.get(name)
            if before is not None and same(before, known):
                state.values[name] = before
        self._start = dict(state.values)
        self._contents = [*self._contents[-1:], state.contents]
        self.tables.begin()

    def plan(
        self,
        state: State,
        node: Node,
        visit: Callable[[State, Node], bool],
        record: Callable[[State, Settled], None],
    ) -> None:
        """Plan a node: as before, or by `visit`, which tells whether it planned this node alone.

        record: adds a step, where only that may have changed which its readers see.
        """
        before, settled = self._found.get(node.name), None
        if before is not None and (before.node is not node or not before.whole):
            before = None
        if before is not None and (_holds(state, before.read) or self._stand(state, before)):
            settled = before.settled
            if settled is None or _holds(state, settled.late) or self._stand_late(state, before, settled):
                _again(state, before)
                return
        first, others = len(state.steps), _others(state)
        read, made = state.values.noted()
        watched: list[tuple[Operand, Need, Operand | None]] = []
        state.watched.noted, state.settled = watched, None
        if before is not None and settled is not None:
            for name in before.made.keys() - node.outputs:
                state.values[name] = before.made[name]
            _watch(state, before)
            record(state, settled)
            read, alone = before.read, True
        else:
            alone = visit(state, node)
        steps = state.steps[first:]
        public = bool(made) and all(known.value is not None for known in made.values())
        whole = alone and (public or bool(steps)) and others == _others(state)
        if before is not None:
            for name, known in made.items():
                again = before.made.get(name)
                if again is not None and same(again, known):
                    state.values[name] = made[name] = again
            steps = [*map(kept, before.steps, steps), *steps[len(before.steps) :]]
            state.steps[first:] = steps
        settled = state.settled if len(steps) == 1 else None
        self._found[node.name] = _Found(node, whole, dict(read), dict(made), steps, list(watched), settled)

    def _stand(self, state: State, before: _Found) -> bool:
        """Whether steps read tables that are planned alike. A public value is computed from the tables
        themselves."""
        return bool(before.steps) and self.tables.stand(state, before.read, [before.node])

    def _stand_late(self, state: State, before: _Found, settled: Settled) -> bool:
        """Whether the values that were read for the readers of a step are planned alike."""
        readers = [r for name in before.made for r in state.readers.get(name, ()) if r is not None]
        return self.tables.stand(state, settled.late, [node for node, _ in readers])


def _again(state: State, before: _Found) -> None:
    """Change what planning a node changed before."""
    if not before.steps:
        for known in before.made.values():
            if known.value is not None:
                state.budget.take_public(before.node.name, known.value.nbytes)
    state.budget.check_time()
    state.watched.noted = []
    state.values.update(before.made)
    state.steps += before.steps
    _watch(state, before)


def _holds(state: State, read: dict[str, Known | None]) -> bool:
    """Whether the values that were read are the same objects."""
    return all(map(is_, map(state.values.held, read), read.values()))


def _watch(state: State, before: _Found) -> None:
    for operand, need, divisor in before.watched:
        state.watched.add(operand, need, divisor)


def _others(state: State) -> tuple[int, ...]:
    """Changes where they are, the sizes of what a step usually leaves alone."""
    counts = state.inputs, state.refusals, state.client_nodes, state.unknown, state.wanted
    return *map(len, counts), state.revised
