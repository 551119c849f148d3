"""The course of a run: when steps start and end, and which values are still to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from onnxpuma.plan.plan import Plan, Step, rounds_of, spans


@dataclass(frozen=True, slots=True)
class Course:
    """How the steps of a plan hang together, by number: the same for all its runs."""

    # For each step the values that it reads and that end with their last reader; weights of the model stay.
    read: list[tuple[str, ...]]
    # For each step the steps that read its results.
    readers: list[list[Step]]
    # For each step how many others compute its inputs.
    sources: list[int]
    # Value -> the steps that read it.
    uses: dict[str, int]
    wanted: frozenset[str]


_courses: WeakKeyDictionary[Plan, Course] = WeakKeyDictionary()


def course_of(plan: Plan) -> Course:
    """The course of a plan, found once."""
    found = _courses.get(plan)
    if found is None:
        found = _courses[plan] = _course(plan.steps, frozenset(output.name for output in plan.outputs))
    return found


def _course(steps: Sequence[Step], wanted: frozenset[str]) -> Course:
    maker = {name: number for number, step in enumerate(steps) for name in step.outputs}
    found = Course([], [[] for _ in steps], [], {}, wanted)
    for step in steps:
        given = {o.name: o for o in step.call.inputs if o is not None}
        own = tuple(name for name, o in given.items() if o.secret and (not o.weight or name in maker))
        found.read.append(own)
        for name in own:
            found.uses[name] = found.uses.get(name, 0) + 1
        sources = {maker[name] for name in given if name in maker}
        found.sources.append(len(sources))
        for source in sorted(sources):
            found.readers[source].append(step)
    return found


class Uses:
    """Counts the steps that are still to read each value of a run; weights of the model stay to its end."""

    def __init__(self, plan: Plan) -> None:
        self._course = course_of(plan)
        self._left = dict(self._course.uses)

    def over(self, step: Step) -> list[str]:
        """The values that nothing reads any more now that this step has ended."""
        left, wanted = self._left, self._course.wanted
        ended = []
        for name in self._course.read[step.index]:
            left[name] -= 1
            if not left[name] and name not in wanted:
                ended.append(name)
        return ended + [name for name in step.outputs if not left.get(name) and name not in wanted]


def events(plan: Plan, rounds: Callable[[Step], int] = rounds_of) -> Iterator[tuple[Step, bool]]:
    """Every step when it starts (True) and when it ends (False), in the order of a run.

    rounds: how long a step takes.
    """
    marks: list[tuple[int, bool, int, bool]] = []
    for place, (start, end) in enumerate(spans(plan.steps, rounds)):
        # ends come before starts, but a step without rounds ends as soon as it has started
        marks += [(start, True, place, False), (end, start == end, place, True)]
    for _, _, place, ended in sorted(marks):
        yield plan.steps[place], not ended
