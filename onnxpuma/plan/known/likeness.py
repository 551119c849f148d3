"""Decisions on steps that are alike: what one layer of a model found is renamed for the others.

A decision looks at steps, one after the other, at who reads their results, and at no name. So two decisions
that look at steps of equal content, which hang together alike, have the same outcome but for names. The
steps that a decision will look at are known from the last plan.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

from onnxpuma.ops.registry import Operand, altered
from onnxpuma.plan.known.sameness import kept
from onnxpuma.plan.plan import Step

Changed: TypeAlias = dict[int, Step]  # the steps that change, by number
_NOTED = 1 << 14  # sets of steps whose ties are known from earlier plans


class Likeness:
    """What the decisions of one plan found, by what they looked at. readers: value -> who reads it."""

    def __init__(self, readers: Mapping[str, Sequence[int]]) -> None:
        self._readers = readers
        self._found: dict[Hashable, tuple[Sequence[int], Changed | None]] = {}
        self._ties: dict[tuple[int, ...], Hashable] = {}

    def begin(self) -> None:
        """Begin a plan of steps that make and read the same values as those of the last one."""
        self._found = {}
        if len(self._ties) > _NOTED:
            self._ties = {}

    def question(self, kind: Hashable, read: Mapping[int, Step]) -> Hashable:
        """Equal for decisions of one kind that look at steps which are alike, in this order."""
        numbers = tuple(read)
        ties = self._ties.get(numbers)
        if ties is None:
            ties = self._ties[numbers] = self._tied(read)
        return kind, ties, tuple([(s.call.content, s.resolves, s.constant) for s in read.values()])

    def note(self, question: Hashable, read: Mapping[int, Step], outcome: Changed | None) -> None:
        """Note the outcome of a decision that looked at these steps."""
        self._found[question] = tuple(read), outcome

    def holds(self, question: Hashable) -> bool:
        """Whether a decision of this question is noted."""
        return question in self._found

    def again(self, question: Hashable, read: Mapping[int, Step], old: Changed | None) -> Changed | None:
        """The outcome of a noted decision, for these steps. old: that of the last plan; steps that turn out
        as there are the same objects."""
        numbers, outcome = self._found[question]
        if outcome is None:
            return None
        own = dict(zip(numbers, read.items(), strict=True))
        changed = {}
        for theirs, made in outcome.items():
            number, step = own[theirs]
            changed[number] = renamed(step, made)
            before = None if old is None else old.get(number)
            if before is not None and before.call.content is made.call.content:
                changed[number] = kept(before, changed[number])
        return changed

    def _tied(self, read: Mapping[int, Step]) -> Hashable:
        """How steps hang together: the order of their numbers, which values they share, and which of them
        read each result; -1 stands for a step that is not among them."""
        places = {number: place for place, number in enumerate(read)}
        names: dict[str, int] = {}
        order = tuple(places[number] for number in sorted(read))
        shared = tuple(
            tuple([names.setdefault(name, len(names)) for name in (*step.outputs, *step.reads)])
            for step in read.values()
        )
        readers = tuple(
            tuple([tuple([places.get(n, -1) for n in self._readers.get(name, ())]) for name in step.outputs])
            for step in read.values()
        )
        return order, shared, readers


def renamed(own: Step, made: Step) -> Step:
    """A step in place of `own` that is `made`, of a step of equal content, but for names."""
    call = made.call
    _ = call.content  # and that of its operands, which keep theirs under other names
    inputs = [
        mine if mine is None or o is None else _named(o, mine)
        for mine, o in zip(own.call.inputs, call.inputs, strict=True)
    ]
    outputs = [_named(o, mine) for mine, o in zip(own.call.outputs, call.outputs, strict=True)]
    new = call.again(own.call.node, inputs, outputs)
    return Step(own.index, made.operator, new, own.outputs, made.resolves, made.constant)


def _named(operand: Operand, own: Operand) -> Operand:
    return own if operand.content is own.content else altered(operand, name=own.name)
