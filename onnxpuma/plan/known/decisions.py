"""Decisions on the steps of a plan, taken over from the last plan where what they looked at is the same.

A decision is a function of the steps that it reads and of who reads which value. So it is enough to note
which steps it read. They are compared by identity: `Recall` and the decisions before have left equal steps
the same objects.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import is_
from typing import Any, Protocol, TypeVar

from onnxpuma.plan.known.answers import Answers
from onnxpuma.plan.known.likeness import Changed, Likeness
from onnxpuma.plan.known.sameness import kept
from onnxpuma.plan.plan import Step, StepCourse

_Outcome = TypeVar("_Outcome")


class Steps(Protocol):
    """The steps of a plan by number, for a decision that only reads them."""

    def __getitem__(self, number: int, /) -> Step: ...


class _Seen:
    """Notes which steps are read, as they were."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.read: dict[int, Step] = {}

    def __getitem__(self, number: int, /) -> Step:
        step = self.read[number] = self._steps[number]
        return step


class Decisions:
    """What was decided on the steps of the last plan of one graph, selection and network."""

    def __init__(self) -> None:
        self._courses: list[StepCourse] = []
        self._facts: Hashable = None
        self._readers: dict[str, list[int]] = {}
        self._made: dict[Hashable, tuple[dict[int, Step], tuple[tuple[object, ...], Any]]] = {}
        self._likeness = Likeness(self._readers)
        self._answers: dict[int, Answers] = {}

    def begin(self, steps: Sequence[Step], facts: Hashable = None) -> Mapping[str, Sequence[int]]:
        """Call it before decisions on these steps: value -> the numbers of the steps that read it.

        All earlier decisions are forgotten where steps make or read other values than before, or where the
        facts, on which all of them depend, have changed.
        """
        courses = [step.course for step in steps]
        if courses != self._courses or facts != self._facts:
            self._courses, self._facts, self._readers = courses, facts, readers_in(steps)
            self._made, self._answers = {}, {}
            self._likeness = Likeness(self._readers)
        self._likeness.begin()
        return self._readers

    def answers(self, turn: int) -> Answers:
        """What the steps asked for in this pass of the last plan."""
        return self._answers.setdefault(turn, Answers(self._readers))

    def decided(
        self, key: Hashable, steps: Steps, decide: Callable[[Steps], _Outcome], *given: object
    ) -> _Outcome:
        """The outcome of `decide`, a function of the steps that it reads and of these objects.

        key: names the decision. An outcome that is noted once must not be altered.
        """
        before = self._made.get(key)
        if before is not None:
            read, (objects, outcome) = before
            same = len(objects) == len(given) and all(map(is_, objects, given))
            if same and all(map(is_, map(steps.__getitem__, read), read.values())):
                return outcome
        seen = _Seen(steps)
        outcome = decide(seen)
        self._made[key] = seen.read, (given, outcome)
        return outcome

    def changed(
        self, key: Hashable, steps: Steps, decide: Callable[[Steps], Changed | None], *given: object
    ) -> Changed | None:
        """`decided` for an outcome that is the steps that change, by number. Those that turn out as before
        are the same objects."""
        before = self._made.get(key)
        old = before[1][1] if before is not None else None
        changed = self.decided(key, steps, decide, *given)
        if old and changed and old is not changed:
            both = old.keys() & changed.keys()
            changed.update((number, kept(old[number], changed[number])) for number in both)
        return changed

    def changed_alike(
        self, kind: Hashable, number: int, steps: Steps, decide: Callable[[Steps], Changed | None]
    ) -> Changed | None:
        """`changed` for the decision of this kind on a step, which must not depend on names: what one layer
        has found is taken over by others that are alike (likeness.py)."""
        key = kind, number
        before = self._made.get(key)
        if before is None:
            return self.changed(key, steps, decide)
        read, (_, old) = before
        if all(map(is_, map(steps.__getitem__, read), read.values())):
            return old
        now = {n: steps[n] for n in read}
        question = self._likeness.question(kind, now)
        if self._likeness.holds(question):
            changed = self._likeness.again(question, now, old)
            self._made[key] = now, ((), changed)
            return changed
        changed = self.changed(key, steps, decide)
        looked_at = self._made[key][0]
        if list(looked_at) != list(now):
            question = self._likeness.question(kind, looked_at)
        self._likeness.note(question, looked_at, changed)
        return changed


def readers_in(steps: Sequence[Step]) -> dict[str, list[int]]:
    """Value -> the numbers of the steps that read it."""
    found: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for name in dict.fromkeys(step.reads):
            found.setdefault(name, []).append(number)
    return found
