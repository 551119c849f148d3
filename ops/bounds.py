"""What is known of a secret value without seeing it: an interval for its elements, a length for its rows.

Both hold for every input there is: they follow from the weights, which their owner measures
(plan/weights/facts.py), from what an operator can yield, and from declared ranges of inputs. The planner
carries them from step to step, as floats of which each is rounded away from zero where it matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Bound:
    """low <= x <= high for every element; norm: the Euclidean length of every row of the last axis.

    blocks: size -> the length of every aligned block of so many elements of a row, a head of a projection
    say. matrix: what products with it may take from it, by the names of `ops/products.py`. Infinite, or not
    there, where nothing is known.
    """

    low: float = -math.inf
    high: float = math.inf
    norm: float = math.inf
    blocks: Mapping[int, float] = field(default_factory=dict)
    matrix: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> float:
        """No |x| is above it."""
        return max(-self.low, self.high)

    def length(self, count: int) -> float:
        """No aligned block of `count` elements of a row is longer."""
        found = min(self.norm, self.size * math.sqrt(count))
        for size, length in self.blocks.items():
            if size % count == 0:
                found = min(found, length)
            elif count % size == 0:
                found = min(found, length * math.sqrt(count / size))
        return found

    def rows(self, shape: Sequence[int], of: Sequence[int]) -> Bound:
        """Of a value of `shape` that is broadcast to the shape `of`: its rows are kept, or nothing is known
        of them."""
        kept = (shape[-1] if shape else 1) == (of[-1] if of else 1)
        return replace(self, matrix={}) if kept else Bound(self.low, self.high)

    def plus(self, other: Bound, count: int) -> Bound:
        """Of the sum of two values with rows of `count` elements."""
        blocks = {b: self.length(b) + other.length(b) for b in {*self.blocks, *other.blocks}}
        length = self.length(count) + other.length(count)
        return Bound(self.low + other.low, self.high + other.high, length, blocks)

    def times(self, factor: float) -> Bound:
        """Of the value times a public number."""
        ends, size = (_product(self.low, factor), _product(self.high, factor)), abs(factor)
        lengths = {b: _product(v, size) for b, v in self.blocks.items()}
        matrix = {key: _product(v, size) for key, v in self.matrix.items()}
        return Bound(min(ends), max(ends), _product(self.norm, size), lengths, matrix)

    def by(self, other: Bound, count: int) -> Bound:
        """Of the product, element by element, of two values with rows of `count` elements."""
        ends = [_product(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]

        def length(n: int) -> float:
            return min(_product(self.size, other.length(n)), _product(other.size, self.length(n)))

        return Bound(
            min(ends), max(ends), length(count), {b: length(b) for b in {*self.blocks, *other.blocks}}
        )

    def hull(self, other: Bound) -> Bound:
        """Of either of two values, row by row."""
        blocks = {b: max(self.length(b), other.length(b)) for b in {*self.blocks, *other.blocks}}
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Bound(low, high, max(self.norm, other.norm), blocks)

    def within(self, low: float, high: float) -> Bound:
        """Of what no element takes further from zero, and all into an interval."""
        return Bound(max(low, min(self.low, 0.0)), min(high, max(self.high, 0.0)), self.norm, self.blocks)

    def only(self) -> Bound:
        """What elements have in any order."""
        return Bound(self.low, self.high)

    def around(self, error: float, count: int) -> Bound:
        """With room for an error in each element, of rows of `count` elements, and a little of the rest."""
        wider, root = 1 + RELATIVE, math.sqrt(count)
        return Bound(
            self.low - abs(self.low) * RELATIVE - error if self.low > -math.inf else self.low,
            self.high + abs(self.high) * RELATIVE + error if self.high < math.inf else self.high,
            self.norm * wider + error * root,
            {b: v * wider + error * math.sqrt(b) for b, v in self.blocks.items()},
            {key: v * wider + error * count for key, v in self.matrix.items()},
        )


def _product(a: float, b: float) -> float:
    """Of two ends of intervals: no value is infinite, so what is zero takes the other along."""
    return 0.0 if a == 0 or b == 0 else a * b


RELATIVE = 2.0**-12  # what the rounding of bounds, and that of large values, may add at each step


UNKNOWN = Bound()


@dataclass(frozen=True)
class Need:
    """What a limit asks of one input of a step, so that the planner can prove it or have it checked.

    place: of the input. kind: "element": every |x| < below; "row": the Euclidean length of every row over
    `axes` is below it; "deviation": that length without the row's mean; "spread": how far apart two elements
    of a row are; "below": every x < below; "positive": every x >= below; "nonzero": every |x| >= below;
    "quotient": every |x| < below times that of the next input. axes: counted from the end. count: of a "row"
    of the last axis, each aligned block of so many elements; 0 for the whole. around: less the mean over this
    axis.
    """

    place: int
    kind: str
    below: float
    axes: tuple[int, ...] = (-1,)
    count: int = 0
    around: int | None = None
