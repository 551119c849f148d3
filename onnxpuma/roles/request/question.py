"""What decides a plan: the public part of a request. And what a request most likely asks that goes on so."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxpuma.plan.plan import Selection
from onnxpuma.standard.padding import BLOCK

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
    a text that grows by a token, perhaps behind padding that a mask hides. None where that leads nowhere."""
    if before.selection != now.selection or before.shapes.keys() != now.shapes.keys():
        return None
    masks = {name: mask for name in now.public if (mask := _next_mask(before, now, name)) is not None}
    shapes = _behind(now, masks) if masks else _grown(before, now)
    if shapes is None:
        return None
    public = {}
    for name, array in now.public.items():
        found = masks.get(name)
        if found is None:
            found = _continued(before.public.get(name), array, shapes[name])
        if found is None:
            return None
        public[name] = found
    return Question(shapes, public, now.selection)


def _grown(before: Question, now: Question) -> dict[str, tuple[int, ...]] | None:
    """The shapes, if each extent goes on as from `before` to `now`."""
    shapes = {}
    for name, shape in now.shapes.items():
        then = before.shapes[name]
        if len(then) != len(shape):
            return None
        shapes[name] = tuple([2 * b - a for a, b in zip(then, shape, strict=True)])
        if min(shapes[name], default=0) < 0:
            return None
    return shapes


def _next_mask(before: Question, now: Question, name: str) -> np.ndarray[Any, Any] | None:
    """The next mask of this name, where its zeros hide the front of what grew by a token: with one zero fewer
    or, where none is left, with another block of places. None for any other array."""
    then, mask = before.public.get(name), now.public[name]
    if then is None or mask.ndim != 2 or mask.size > MOST:
        return None
    ones, earlier = _ones(mask), _ones(then)
    if ones is None or earlier is None or not np.array_equal(ones, earlier + 1):
        return None
    hidden = mask.shape[1] > ones.max()
    if not hidden and then.shape != mask.shape:
        return None  # it has grown without zeros
    places = mask.shape[1] + (0 if hidden else BLOCK)
    return (np.arange(places) >= places - 1 - ones[:, None]).astype(mask.dtype)


def _ones(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """How many ones are in each row, if each consists of zeros, then of one or more ones."""
    if not mask.ndim or mask.dtype.kind not in "iub":
        return None
    ones = np.count_nonzero(mask, axis=-1)
    rows = np.arange(mask.shape[-1]) >= mask.shape[-1] - np.expand_dims(ones, -1)
    return ones if np.array_equal(mask, rows) and np.all(ones) else None


def _behind(now: Question, masks: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, tuple[int, ...]] | None:
    """The shapes with these masks. Where a mask has another block of places, so have the kept values: along
    the axis that has a place for all tokens but the last. None where that is not one axis."""
    shapes = dict(now.shapes)
    for name, mask in masks.items():
        places, shapes[name] = now.shapes[name][1], mask.shape
        if mask.shape[1] == places:
            continue
        for held in () if now.selection is None else now.selection.held:
            if now.shapes[held].count(places - 1) != 1:
                return None
            shapes[held] = tuple(n + BLOCK if n == places - 1 else n for n in now.shapes[held])
    return shapes


def _continued(
    before: np.ndarray[Any, Any] | None, now: np.ndarray[Any, Any], shape: tuple[int, ...]
) -> np.ndarray[Any, Any] | None:
    """The array of this shape that follows these two; None where none does."""
    if before is None or max(now.size, int(np.prod(shape))) > MOST:
        return None
    if before.shape == now.shape:
        if np.array_equal(before, now):
            return now.copy()  # not a view of the request
        if _ones(before) is not None and _ones(now) is not None:
            return None  # a mask
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
