"""The course of a run: when steps start and end, and which values are still to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from onnxpuma.plan.plan import Plan, Step, rounds_of, spans


class Uses:
    """Counts the steps that are still to read each value of a run; weights of the model stay to its end."""

    def __init__(self, plan: Plan) -> None:
        self._wanted = {output.name for output in plan.outputs}
        self._made = {name for step in plan.steps for name in step.outputs}
        self._left = Counter(name for step in plan.steps for name in self._read(step))

    def _read(self, step: Step) -> set[str]:
        given = (o for o in step.call.inputs if o is not None and o.secret)
        return {o.name for o in given if not o.weight or o.name in self._made}

    def over(self, step: Step) -> list[str]:
        """The values that nothing reads any more now that this step has ended."""
        ended = self._read(step)
        self._left.subtract(ended)
        return [n for n in (*ended, *step.outputs) if self._left[n] <= 0 and n not in self._wanted]


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
