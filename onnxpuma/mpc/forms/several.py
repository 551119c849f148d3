"""Several values joined into one: end to end, on a new axis, or element by element by a public choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.forms.form import F
from onnxpuma.mpc.ring.words import Words


def joined(values: Sequence[F], axis: int = 0) -> F:
    """Values end to end along an axis."""
    first, *others = values
    if not others:
        return first
    shape = list(first.shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return first.map(lambda *words: np.concatenate(words, axis=axis), *others, shape=tuple(shape))


def stacked(values: Sequence[F], axis: int = 0) -> F:
    """Values of one shape beside each other on a new axis."""
    first, *others = values
    return first.map(lambda *words: np.stack(words, axis=axis), *others)


def chosen(mask: npt.NDArray[np.bool_], one: F, other: F) -> F:
    """`one` where the public mask is true, `other` elsewhere; all three broadcast."""
    return one.map(lambda a, b: np.where(mask, a, b), other)


def picked(values: Sequence[F], index: npt.NDArray[np.integer]) -> F:
    """Elements of these values, counted as if they lay end to end, by index; zero where the index is -1."""
    holes = bool((index < 0).any())

    def pick(*words: Words) -> Words:
        flat = [np.ascontiguousarray(w).reshape(-1) for w in words]
        if holes:  # index -1 becomes 0, and zeroed() clears the element
            flat = [np.zeros(1, words[0].dtype), *flat]
        every = flat[0] if len(flat) == 1 else np.concatenate(flat)
        found: Words = every[index + 1 if holes else index]
        return found

    first, *others = values
    return first.map(pick, *others)
