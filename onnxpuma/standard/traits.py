"""The traits of an operator: facts that hold in every implementation of the standard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Rows = Literal[
    "each",  # a row of the result follows from that row of the one operand
    "broadcast",
    "product",
    "gemm",
    "normalisation",
    "along",  # alone, unless the row lies along the attribute `axis`
    "transpose",
    "concat",
    "attention",
    "rotary",
    "reshape",
    "axes",  # axes of one element come or go
]
Slots = Sequence[int]
EVERY: Final = range(1 << 31)  # input
POSITIVE: Final = (0.0, math.inf)
SHARE: Final = (0.0, 1.0)
SIGNED: Final = (-1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Facts about one operator; an unset trait claims nothing. `Slots` are places among its inputs."""

    # Inputs that decide a shape, an axis, a size or which branch is taken.
    shapes: Slots = ()
    # Inputs that are ids or places in another input.
    indices: Slots = ()
    # Inputs whose rows or elements are taken at the indices.
    tables: Slots = ()
    # Inputs that are trained: there even a round number is a weight.
    trained: Slots = ()
    # Its attributes are trained as well.
    trained_attributes: bool = False
    # Inputs of which only the shape or the element type is read.
    unread: Slots = ()
    # Inputs that it computes on as on shapes and indices; a value goes from them into every output.
    carries: Slots = ()
    # Inputs through which a mask is added to scores, or chosen in their place.
    masks: Slots = ()
    # The input of which only differences count: scores, or the mask that is added to them.
    scores: int | None = None
    # How a row of the result follows from the inputs (graph/rowwise.py); None: not from rows alone.
    rows: Rows | None = None
    # The same elements, in another shape or order.
    layout: bool = False
    # On shares each word of the result is a word of an input, unchanged.
    chooses: bool = False
    # Each element of the result is one of the first input's, or lies between two of them.
    among: bool = False
    # The result lies between these, whatever the inputs are.
    between: tuple[float, float] | None = None
    # It adds its operands, or subtracts one from another.
    sums: bool = False
    # It compares numbers for their value.
    compares: bool = False
    # A product with weights: an Add that reads it adds a bias.
    linear: bool = False
    # A window slides over its first input.
    window: bool = False
    # It draws at random.
    random: bool = False
    # Its attributes contain graphs, which it runs.
    control: bool = False
    # The planner replaces it with other nodes.
    unrolled: bool = False
    # The values of its inputs, not their sizes, decide the size of the result.
    free: bool = False
    # On shares it takes a value that was scaled by a public number and is still to be truncated.
    scaled: bool = False
    # On shares its error is one unit of 2^-18, whatever the operands are.
    rounded: bool = False

    @property
    def of_shape(self) -> bool:
        """It reads the shape of its input, and none of its numbers."""
        return 0 in self.unread


UNKNOWN: Final = Traits()
