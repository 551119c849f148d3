"""Measures of the difference between a secure result and a plain one: cosines, words, tokens, largest
errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLOSE = 0.05  # two logits nearer to each other than this are a draw


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors, in double precision."""
    x, y = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """The first place at which two sequences differ, their ends included; None when they are the same."""
    if list(a) == list(b):
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def margins(logits: np.ndarray) -> np.ndarray:
    """The distance of the largest logit to the second, (..., vocabulary) -> (...)."""
    best = np.partition(logits, -2, axis=-1)[..., -2:]
    return np.asarray(best[..., 1] - best[..., 0])


def words(text: str) -> list[str]:
    """The words of a text, normalised for comparing transcripts: upper case, without punctuation."""
    return re.findall(r"[A-Z0-9']+", text.upper())


def word_errors(reference: str, found: str) -> int:
    """The number of words to insert, delete or replace to turn `found` into `reference`."""
    wanted, given = words(reference), words(found)
    row = list(range(len(given) + 1))
    for i, word in enumerate(wanted, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(given, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


@dataclass
class Errors:
    """The largest and the mean absolute error over all added arrays, and the largest of the plain values."""

    largest: float = 0.0
    total: float = 0.0
    count: int = 0
    reference: float = 0.0

    def add(self, secure: np.ndarray, plain: np.ndarray) -> None:
        """Add two arrays of one shape."""
        apart = np.abs(secure.astype(np.float64) - plain)
        self.largest = max(self.largest, float(apart.max(initial=0.0)))
        self.reference = max(self.reference, float(np.abs(plain).max(initial=0.0)))
        self.total += float(apart.sum())
        self.count += apart.size

    @property
    def mean(self) -> float:
        return self.total / max(1, self.count)
