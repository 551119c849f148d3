"""The rows of a normalisation: how they are read, and their reciprocal roots.

A row's sum of squares is a dot product, so one element a row leaves the party. Rows of norm above FINE_NORM
do not fit at all their fraction bits: they are read twice (mpc/wide_root.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import sum_of_squares
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.reciprocal import digits_of, inverse_cost, rsqrt
from onnxpuma.mpc.shares import Replicated, Sum3
from onnxpuma.mpc.wide_root import HIGHEST, Readings, wide_rsqrt, wide_rsqrt_cost
from onnxpuma.mpc.words import encode
from onnxpuma.ops.registry import FRACTION
from onnxpuma.ops.spread import joined

ROOT_FRACTION = 28
PRODUCT_FRACTION = 22  # of x gamma: its rounding is multiplied by the root, which is large for a small row
FINE_NORM = 2.0**12  # rows up to this norm are read at all their fraction bits
LARGEST_NORM = 2.0**20  # where calibration has not found another bound
SMALLEST_EPSILON = 2.0**-26  # a smaller one would let the rounding of a constant row show
FEW = 96  # rows that one pivot leads alone


@dataclass(frozen=True)
class Rows:
    """How a value of `shape` is normalised: over its last axes from `axis` on, `count` elements a row."""

    shape: tuple[int, ...]
    axis: int
    centred: bool
    epsilon: float
    norm: float = LARGEST_NORM  # every row's is below it

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(self.axis, len(self.shape)))

    @property
    def count(self) -> int:
        return int(np.prod(self.shape[self.axis :], dtype=np.int64))

    @property
    def number(self) -> int:
        return int(np.prod(self.shape[: self.axis], dtype=np.int64))

    @property
    def narrow(self) -> tuple[int, ...]:
        """The shape of one number a row."""
        return (*self.shape[: self.axis], *([1] * len(self.axes)))

    @property
    def offset(self) -> float:
        """What is added to a sum of squares, and so the least that there is to take a root of."""
        return max(self.epsilon, SMALLEST_EPSILON) * self.count

    @property
    def digits(self) -> tuple[int, int]:
        """Of a sum of squares that is read at all its fraction bits."""
        largest = min(self.norm, FINE_NORM) ** 2 + self.offset
        low, high = digits_of(self.offset, largest, 2 * FRACTION)
        return low, (high if self.norm <= FINE_NORM else HIGHEST)

    @property
    def shift(self) -> int:
        """Fraction bits that a row gives up for the coarse reading, 0 where there is none.

        The ring shrinks by as many, so each of them doubles the sum of squares that fits.
        """
        if self.norm <= FINE_NORM:
            return 0
        return max(4, 2 * math.ceil(math.log2(self.norm)) - 26)

    @property
    def beyond(self) -> int:
        """Fraction bits that a root needs more for rows larger than usual, and a product has less."""
        return min(max(0, math.ceil(math.log2(self.norm / LARGEST_NORM))), PRODUCT_FRACTION - FRACTION)

    @property
    def root_fraction(self) -> int:
        return ROOT_FRACTION + self.beyond

    @property
    def product_fraction(self) -> int:
        return PRODUCT_FRACTION - self.beyond


def roots(party: Party, x: Replicated, rows: Rows) -> Protocol[Replicated]:
    """sqrt(count) / sqrt(sum of squares + offset) of each row, (rows,), `root_fraction` fraction bits."""
    readings = [x, x.lowered(rows.shift)] if rows.shift else [x]
    squares = [_squares(party, reading, rows) for reading in readings]
    gain = float(np.sqrt(rows.count))

    def root(piece: slice, pivot: int) -> Protocol[Replicated]:
        parts = [value.map(lambda w: w[piece]) for value in squares]
        if len(parts) == 1:
            return (yield from rsqrt(party, parts[0], pivot, rows.root_fraction, rows.digits, gain))
        return (
            yield from wide_rsqrt(party, parts[0], parts[1], pivot, rows.root_fraction, rows.digits[0], gain)
        )

    if rows.number < FEW:
        return (yield from root(slice(None), party.next_pivot()))
    pieces = enumerate(thirds(rows.number))
    return joined((yield from parallel(root(piece, pivot) for pivot, piece in pieces)), (rows.number,))


def _squares(party: Party, x: Replicated, rows: Rows) -> Sum3:
    """The sum of squares of each row, and the offset, (rows,)."""
    total = sum_of_squares(party, x, rows.axes).map(lambda w: w.reshape(-1))
    return total.plus(encode(rows.offset, total.fraction))


def roots_cost(rows: Rows) -> Cost:
    sizes = [rows.number] if rows.number < FEW else [s.stop - s.start for s in thirds(rows.number)]
    gain, total = float(np.sqrt(rows.count)), Cost()
    fine, coarse = 2 * FRACTION, 2 * (FRACTION - rows.shift)
    for size in sizes:
        if rows.shift:
            readings = Readings(fine, coarse, 64 - rows.shift)
            total |= wide_rsqrt_cost(size, readings, rows.root_fraction, rows.digits[0], gain)
        else:
            total |= inverse_cost("rsqrt", size, rows.digits, fine, rows.root_fraction, gain)
    return total
