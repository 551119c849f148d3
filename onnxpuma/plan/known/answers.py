"""What each step asks of the steps before it, answered again only where something has changed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from onnxpuma.mpc.format import Format
from onnxpuma.ops.registry import widest
from onnxpuma.plan.budget import LOOK, Budget
from onnxpuma.plan.plan import Step


class Asked(NamedTuple):
    """What a step asks for, where its readers ask for certain formats."""

    # Value at rest that the step makes -> the least format that its readers accept; None for the model's.
    least: dict[str, Format | None]
    # The values that it reads -> the format that it accepts.
    answers: list[tuple[str, Format | None]]


class Answers:
    """What the steps of the last plan asked for, by number. All plans have steps that make and read the same
    values. readers: value -> the numbers of the steps that read it."""

    def __init__(self, readers: Mapping[str, Sequence[int]]) -> None:
        self._readers = readers
        self._steps: list[Step] = []
        self._wishes: list[list[Format | None] | None] = []
        self._makers: dict[str, int] = {}
        self._found: set[int] = set()
        self.asked: list[Asked] = []

    def renew(
        self, steps: Sequence[Step], ask: Callable[[Step, list[Format | None]], Asked], budget: Budget
    ) -> list[int]:
        """The numbers of the steps that make a value which could rest in another format, the last first.

        ask: what a step asks for, given what the readers of each output ask for; each answer depends on those
        of later readers.
        """
        before, self._steps = self._steps, []  # nothing counts if this is not finished
        if not before:
            self._start(steps)
            waiting = [-number for number in range(len(steps))]
        else:
            pairs = enumerate(zip(before, steps, strict=True))
            waiting = [-number for number, (old, new) in pairs if old is not new]
            for number in waiting:
                self._wishes[-number] = None
        heapq.heapify(waiting)
        count = 0
        while waiting:
            number = -heapq.heappop(waiting)
            wishes = [self._wish(name) for name in steps[number].outputs]
            if wishes == self._wishes[number]:
                continue
            count += 1
            if count % LOOK == 0:
                budget.check_time()
            was, now = self.asked[number], ask(steps[number], wishes)
            self.asked[number], self._wishes[number] = now, wishes
            (self._found.add if any(now.least.values()) else self._found.discard)(number)
            if now.answers != was.answers:
                for name, _ in now.answers:
                    if name in self._makers:
                        heapq.heappush(waiting, -self._makers[name])
        self._steps = list(steps)
        return sorted(self._found, reverse=True)

    def _start(self, steps: Sequence[Step]) -> None:
        self.asked, self._wishes, self._found = [Asked({}, [])] * len(steps), [None] * len(steps), set()
        self._makers = {name: number for number, step in enumerate(steps) for name in step.outputs}

    def _wish(self, value: str) -> Format | None:
        """The least format that all readers of a value accept."""
        readers = reversed(self._readers.get(value, ()))
        found = [format for n in readers for name, format in self.asked[n].answers if name == value]
        return widest(found) if found else None
