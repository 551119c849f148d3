"""Which steps of a plan wait for their inputs while it runs, and which may start."""

from __future__ import annotations

from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.timeline import course_of


class Waiting:
    """The steps that have not started."""

    def __init__(self, plan: Plan) -> None:
        course = course_of(plan)
        self._steps, self._readers = plan.steps, course.readers
        self._missing = list(course.sources)  # by step: how many steps still compute its inputs
        self._ready = [step for step, missing in zip(plan.steps, self._missing, strict=True) if not missing]

    @property
    def ready(self) -> bool:
        """Whether a step may start, in whichever lane."""
        return bool(self._ready)

    def due(self, lane: int) -> list[Step]:
        """The steps that may start in this lane now; they wait no more. One of no lane may start in any."""
        due = [step for step in self._ready if step.lane in (None, lane)]
        if due:
            self._ready = [step for step in self._ready if step.lane not in (None, lane)]
        return due

    def ended(self, step: Step) -> None:
        """The results of a step are there."""
        for reader in self._readers[step.index]:
            self._missing[reader] -= 1
            if not self._missing[reader]:
                self._ready.append(self._steps[reader])
