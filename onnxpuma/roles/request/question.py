"""What decides a plan: the public part of a request. And what a request most likely asks that goes on so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxpuma.plan.plan import Selection

MOST = 1 << 14  # elements of a public input that is continued


@dataclass(frozen=True, eq=False)
class Question:
    """The shapes of all inputs, the public inputs, and the outputs to compute."""

    shapes: Mapping[str, tuple[int, ...]]
    public: Mapping[str, np.ndarray]
    selection: Selection | None = None

    @cached_property
    def key(self) -> bytes:
        """Equal for two that have the same plan; 32 bytes."""
        total = hashlib.sha256(repr((sorted(self.shapes.items()), self.selection)).encode())
        for name, array in sorted(self.public.items()):
            total.update(repr((name, array.dtype.str, array.shape)).encode())
            total.update(np.ascontiguousarray(array).data)
        return total.digest()


def following(before: Question, now: Question) -> Question | None:
    """The question after these two, if each extent and each public number goes on as from `before` to `now`:
    a text that grows by a token. None where that leads nowhere."""
    if before.selection != now.selection or before.shapes.keys() != now.shapes.keys():
        return None
    shapes = {}
    for name, shape in now.shapes.items():
        then = before.shapes[name]
        if len(then) != len(shape):
            return None
        shapes[name] = tuple([2 * b - a for a, b in zip(then, shape, strict=True)])
        if min(shapes[name], default=0) < 0:
            return None
    public = {}
    for name, array in now.public.items():
        found = _continued(before.public.get(name), array, shapes[name])
        if found is None:
            return None
        public[name] = found
    return Question(shapes, public, now.selection)


def _continued(
    before: np.ndarray[Any, Any] | None, now: np.ndarray[Any, Any], shape: tuple[int, ...]
) -> np.ndarray[Any, Any] | None:
    """The array of this shape that follows these two; None where none does."""
    if before is None or max(now.size, int(np.prod(shape))) > MOST:
        return None
    if before.shape == now.shape:
        if np.array_equal(before, now):
            return now.copy()  # not a view of the request
        return now + (now - before) if now.dtype.kind in "iu" else None
    grown = [axis for axis, (a, b) in enumerate(zip(before.shape, now.shape, strict=True)) if a != b]
    if len(grown) != 1 or now.shape[grown[0]] < 2 or shape[grown[0]] < now.shape[grown[0]]:
        return None
    old, new = np.moveaxis(before, grown[0], 0), np.moveaxis(now, grown[0], 0)
    if not np.array_equal(old, new[: len(old)]) or now.dtype.kind not in "iu":
        return None
    steps = np.arange(1, shape[grown[0]] - len(new) + 1).reshape(-1, *[1] * (now.ndim - 1))
    more = (new[-1] + (new[-1] - new[-2]) * steps).astype(now.dtype)
    return np.moveaxis(np.concatenate([new, more]), 0, grown[0])
