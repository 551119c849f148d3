"""What is known of a secret value without seeing it: an interval for its elements, a length for its rows.

Both hold for every input there is: they follow from the weights, which their owner measures (plan/facts.py),
from what an operator can yield, and from declared ranges of inputs. The planner carries them from step to
step, as floats of which each is rounded away from zero where it matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bound:
    """low <= x <= high for every element; norm: the Euclidean length of every row of the last axis.

    blocks: size -> the length of every aligned block of so many elements of a row, a head of a projection
    say. Infinite where nothing is known.
    """

    low: float = -math.inf
    high: float = math.inf
    norm: float = math.inf
    blocks: Mapping[int, float] = field(default_factory=dict)

    @property
    def size(self) -> float:
        """No |x| is above it."""
        return max(-self.low, self.high)

    def length(self, count: int) -> float:
        """No aligned block of `count` elements of a row is longer."""
        return min(self.norm, self.size * math.sqrt(count), self.blocks.get(count, math.inf))


UNKNOWN = Bound()


@dataclass(frozen=True)
class Need:
    """What a limit asks of one input of a step, so that the planner can prove it or have it checked.

    place: of the input. kind: "element": every |x| < below; "row": the Euclidean length of every row over
    `axes` is below it; "deviation": that length without the row's mean; "spread": how far apart two elements
    of a row are; "below": every x < below. axes: counted from the end. count:
    of a "row" of the last axis, each aligned block of so many elements; 0 for the whole. around: less the
    mean over this axis.
    """

    place: int
    kind: str
    below: float
    axes: tuple[int, ...] = (-1,)
    count: int = 0
    around: int | None = None
