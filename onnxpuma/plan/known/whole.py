"""A whole plan taken over: for a request that differs from the last one only in late public inputs.

So it is with the tokens of a block (standard/padding.py): shapes stay, and of the public inputs the mask and
the positions change. What follows from them in the clear is computed anew. If only steps that take it late
(ops/late.py) read it, and planning sees the same of it, the plan is the last one with other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.ops.content import content_of_node
from onnxpuma.plan.budget import Budget, needs_as_much
from onnxpuma.plan.known.sameness import same
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.tables import Tables, takes_late, with_own_tables
from onnxpuma.plan.known.values import Known, Values
from onnxpuma.plan.plan import Plan

Visit = Callable[[State, Node], bool]


@dataclass(frozen=True, eq=False)
class Whole:
    """A plan, and what it was made of."""

    plan: Plan
    state: State
    shapes: Mapping[str, tuple[int, ...]]
    # The nodes that read public inputs, or what follows from them in the clear: all that are public
    # themselves, and one of those that planning cannot tell apart.
    nodes: Sequence[Node]
    # The numbers of the steps that take late inputs.
    late: Sequence[int]
    # Bytes of public values that planning computed.
    spent: int

    @classmethod
    def of(cls, plan: Plan, state: State) -> Whole:
        """That of a finished plan. Cost: proportional to the number of nodes."""
        varying = {n for n, known in state.values.items() if known.value is not None and not known.constant}
        nodes: dict[object, Node] = {}
        for node in state.nodes:
            read = varying.intersection(node.reads)
            if read:
                kind = () if varying.issuperset(filter(None, node.outputs)) else _kind(state, node, read)
                nodes.setdefault(kind or node.name, node)
        shapes = {name: state.values[name].shape for name in state.blueprint.inputs}
        late = [number for number, step in enumerate(plan.steps) if takes_late(step)]
        return cls(plan, state, shapes, list(nodes.values()), late, state.budget.spent)

    def again(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        public: Mapping[str, np.ndarray],
        budget: Budget,
        tables: Tables,
        visit: Visit,
    ) -> Whole | None:
        """The plan at these shapes and public inputs; None where it takes a plan of its own.

        visit: plans a node, and tells whether it planned this node alone.
        """
        if any(tuple(shapes[name]) != shape for name, shape in self.shapes.items()):
            return None
        tables.begin()
        values = Values()
        values.update(self.state.values)
        state = replace(self.state, values=values, budget=budget, refusals=[], steps=[])
        changed: set[str] = set()
        for name in self.state.blueprint.public_inputs:
            before, array = values.held(name), public.get(name)
            if before is None or before.value is None or array is None or before.value.dtype != array.dtype:
                return None
            if not np.array_equal(before.value, array):
                values[name] = replace(before, value=np.array(array))
                changed.add(name)
        for node in self.nodes:
            read = changed.intersection(node.reads)
            if not read:
                continue
            made = {name: known for name in node.outputs if name and (known := values.held(name)) is not None}
            if not made or any(known.value is None for known in made.values()):
                if not tables.stand(state, {name: self.state.values.held(name) for name in read}, [node]):
                    return None
                continue
            if not visit(state, node) or state.refusals or state.steps or not _typed_alike(made, values):
                return None
            changed |= {name for name, known in made.items() if not same(known, values[name])}
        budget.check_time()
        budget.spent = self.spent
        known_values = {**self.plan.known, **{name: _public(values, name) for name in changed}}
        steps = list(self.plan.steps)
        own = with_own_tables(state, [steps[number] for number in self.late])
        for number, step in zip(self.late, own, strict=True):
            steps[number] = step
        plan = self.plan.taken_over(tuple(steps), known_values)
        needs_as_much(plan, self.plan)
        return replace(self, plan=plan, state=replace(self.state, values=values))


def _kind(state: State, node: Node, read: Collection[str]) -> tuple[object, ...]:
    """Equal for nodes for which planning sees the same of the values that they read, if these are late."""
    places = tuple((place, name) for place, name in enumerate(node.inputs) if name in read)
    known = [None if name is None else state.values.held(name) for name in node.inputs]
    return content_of_node(node), places, *(None if one is None else one.shape for one in known)


def _typed_alike(before: Mapping[str, Known], values: Values) -> bool:
    now: Iterable[Known | None] = map(values.held, before)
    return all(
        one is not None and one.value is not None and (one.type, one.constant) == (known.type, known.constant)
        for one, known in zip(now, before.values(), strict=True)
    )


def _public(values: Values, name: str) -> np.ndarray:
    value = values[name].value
    assert value is not None
    return value
