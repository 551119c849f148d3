"""The course of a run: when steps start and end, and which values are still to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from onnxpuma.plan.plan import Plan, Step, StepCourse, rounds_of, spans

_KEPT = 16  # courses: a growing text has one


@dataclass(frozen=True, eq=False)
class Course:
    """How the steps of a plan hang together, by number: the same for all its runs, and for plans of other
    sizes."""

    # For each step the values that it reads and that end with their last reader; weights of the model stay.
    read: list[tuple[str, ...]]
    # For each step the numbers of those that read its results.
    readers: list[list[int]]
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
        wanted = frozenset(output.name for output in plan.outputs)
        found = _courses[plan] = _course(tuple([step.course for step in plan.steps]), wanted)
    return found


@lru_cache(_KEPT)
def _course(steps: Sequence[StepCourse], wanted: frozenset[str]) -> Course:
    maker = {name: number for number, step in enumerate(steps) for name in step[0]}
    found = Course([], [[] for _ in steps], [], {}, wanted)
    for number, (_, reads, weights) in enumerate(steps):
        given = dict(zip(reads, weights, strict=True))
        own = tuple(name for name, weight in given.items() if not weight or name in maker)
        found.read.append(own)
        for name in own:
            found.uses[name] = found.uses.get(name, 0) + 1
        sources = {maker[name] for name in given if name in maker}
        found.sources.append(len(sources))
        for source in sorted(sources):
            found.readers[source].append(number)
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


@dataclass(frozen=True, eq=False)
class Turns:
    """The starts and ends of all steps in the order of a run in which each takes equally long."""

    # (steps,) each: the places of a step's start and end in that order.
    starts: np.ndarray[Any, np.dtype[np.intp]]
    ends: np.ndarray[Any, np.dtype[np.intp]]
    # (values,) each: outputs, counted from the first of the first step, and the ends with which they go.
    freed: np.ndarray[Any, np.dtype[np.intp]]
    freed_at: np.ndarray[Any, np.dtype[np.intp]]
    # The other values that go, each with its place.
    given: list[tuple[str, int]]


_turns: WeakKeyDictionary[Course, Turns] = WeakKeyDictionary()


def turns_of(plan: Plan) -> Turns:
    """The turns of a plan, found once for all plans of one course."""
    course = course_of(plan)
    found = _turns.get(course)
    if found is None:
        found = _turns[course] = _found_turns(plan)
    return found


def _found_turns(plan: Plan) -> Turns:
    uses, count = Uses(plan), len(plan.steps)
    starts, ends = np.zeros(count, np.intp), np.zeros(count, np.intp)
    names = [(step.index, name) for step in plan.steps for name in step.outputs]
    made = {name: number for number, (_, name) in enumerate(names) if name}
    freed: list[tuple[int, int]] = []
    given: list[tuple[str, int]] = []
    for place, (step, begins) in enumerate(events(plan, lambda _: 1)):
        (starts if begins else ends)[step.index] = place
        for name in [] if begins else uses.over(step):
            if name in made:
                freed.append((made[name], place))
            elif name:
                given.append((name, place))
    freed += [(number, int(ends[index])) for number, (index, name) in enumerate(names) if not name]
    outputs, places = np.array(freed, np.intp).reshape(-1, 2).T
    return Turns(starts, ends, outputs, places, given)
