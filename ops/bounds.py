"""Proved bounds of a secret value: an interval for its elements, a length for its rows.

Both hold for every input. They follow from the weights, which their owner measures (plan/weights/facts.py),
from the range of each operator, and from the declared ranges of inputs. The planner carries them from step to
step, as floats that are rounded away from zero where it matters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property


@dataclass(frozen=True)
class Bound:
    """low <= x <= high for every element; a bound is infinite or absent if nothing is known."""

    low: float = -math.inf
    high: float = math.inf
    # The largest Euclidean length of a row of the last axis.
    norm: float = math.inf
    # Size -> the largest length of an aligned block of that many elements of a row: a head of a projection.
    blocks: Mapping[int, float] = field(default_factory=dict)
    # Bounds for products with the value, by the names of ops/products.py.
    matrix: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def key(self) -> Hashable:
        """Equal for equal bounds."""
        lengths, matrix = (tuple(sorted(each.items())) for each in (self.blocks, self.matrix))
        return self.low, self.high, self.norm, lengths, matrix

    @property
    def size(self) -> float:
        """The largest |x|."""
        return max(-self.low, self.high)

    def length(self, count: int) -> float:
        """The largest length of an aligned block of `count` elements of a row."""
        found = min(self.norm, self.size * math.sqrt(count))
        for size, length in self.blocks.items():
            if size % count == 0:
                found = min(found, length)
            elif count % size == 0:
                found = min(found, length * math.sqrt(count / size))
        return found

    def rows(self, shape: Sequence[int], of: Sequence[int]) -> Bound:
        """The bound of a value of `shape` broadcast to the shape `of`; rows that change lose their length."""
        kept = (shape[-1] if shape else 1) == (of[-1] if of else 1)
        return replace(self, matrix={}) if kept else Bound(self.low, self.high)

    def plus(self, other: Bound, count: int) -> Bound:
        """The bound of the sum of two values with rows of `count` elements."""
        blocks = {b: self.length(b) + other.length(b) for b in {*self.blocks, *other.blocks}}
        length = self.length(count) + other.length(count)
        return Bound(self.low + other.low, self.high + other.high, length, blocks)

    def times(self, factor: float) -> Bound:
        """The bound of the value times a public number."""
        ends, size = (_product(self.low, factor), _product(self.high, factor)), abs(factor)
        lengths = {b: _product(v, size) for b, v in self.blocks.items()}
        matrix = {key: _product(v, size) for key, v in self.matrix.items()}
        return Bound(min(ends), max(ends), _product(self.norm, size), lengths, matrix)

    def by(self, other: Bound, count: int) -> Bound:
        """The bound of the elementwise product of two values with rows of `count` elements."""
        ends = [_product(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]

        def length(n: int) -> float:
            return min(_product(self.size, other.length(n)), _product(other.size, self.length(n)))

        return Bound(
            min(ends), max(ends), length(count), {b: length(b) for b in {*self.blocks, *other.blocks}}
        )

    def hull(self, other: Bound) -> Bound:
        """The bound of a value whose rows come from either of two values."""
        blocks = {b: max(self.length(b), other.length(b)) for b in {*self.blocks, *other.blocks}}
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Bound(low, high, max(self.norm, other.norm), blocks)

    def within(self, low: float, high: float) -> Bound:
        """The bound after a function into an interval that moves no element further from zero."""
        return Bound(max(low, min(self.low, 0.0)), min(high, max(self.high, 0.0)), self.norm, self.blocks)

    def only(self) -> Bound:
        """The interval alone, which holds for the elements in any order."""
        return Bound(self.low, self.high)

    def around(self, error: float, count: int) -> Bound:
        """The bound, of rows of `count` elements, with room for this error in each and relative rounding."""
        wider, root = 1 + RELATIVE, math.sqrt(count)
        return Bound(
            self.low - abs(self.low) * RELATIVE - error if self.low > -math.inf else self.low,
            self.high + abs(self.high) * RELATIVE + error if self.high < math.inf else self.high,
            self.norm * wider + error * root,
            {b: v * wider + error * math.sqrt(b) for b, v in self.blocks.items()},
            {key: v * wider + error * count for key, v in self.matrix.items()},
        )


def _product(a: float, b: float) -> float:
    """The product of two ends of intervals: no value is infinite, so zero times an unknown end is zero."""
    return 0.0 if a == 0 or b == 0 else a * b


RELATIVE = 2.0**-12  # the rounding of bounds and of large values adds at most this at each step


UNKNOWN = Bound()


@dataclass(frozen=True)
class Need:
    """A condition on one input of a step; the planner proves it or adds a check at run time.

    Kinds:
    element    every |x| < below
    row        the Euclidean length of every row < below
    deviation  the length of every row without its mean < below
    spread     the distance between two elements of a row < below
    below      every x < below
    positive   every x >= below
    nonzero    every |x| >= below
    quotient   every |x| < below times |y| of the next input
    """

    # The place of the input.
    place: int
    kind: str
    below: float
    # The axes of a row, counted from the end.
    axes: tuple[int, ...] = (-1,)
    # The elements of an aligned block that counts as a row of the last axis; 0: the whole row.
    count: int = 0
    # Rows are taken less their mean over this axis.
    around: int | None = None
