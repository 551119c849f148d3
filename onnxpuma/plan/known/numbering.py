"""The numbers of steps: a step that stands where it stood in the last plan stays the same object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnxpuma.plan.known.sameness import kept
from onnxpuma.plan.plan import Step


class Numbering:
    """The steps of the last plan by number: those that are the same have the same number, and stay."""

    def __init__(self) -> None:
        self._found: list[tuple[Step, Step]] = []
        self._checks: dict[tuple[int, ...], tuple[Sequence[object], Step]] = {}

    def checks(self, made_of: Sequence[Sequence[object]], make: Callable[[int], Step]) -> list[Step]:
        """The step that `make` makes for each place of `made_of`: that of the last plan where these are the
        same objects."""
        before, self._checks = self._checks, {}
        for number, objects in enumerate(made_of):
            key = number, *map(id, objects)
            self._checks[key] = before.get(key) or (objects, make(number))
        return [step for _, step in self._checks.values()]

    def numbered(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The steps, each with its place for its index."""
        before, self._found = self._found, []
        for index, step in enumerate(steps):
            again = before[index] if index < len(before) else None
            if again is None or (again[0] is not step and kept(again[0], step) is step):
                again = step, step.numbered(index)
            self._found.append(again)
        return tuple(step for _, step in self._found)
