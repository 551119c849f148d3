"""The rows of a normalisation, and the formats of their products.

A row of norm above FINE_NORM does not fit with all its fraction bits: it is read twice
(protocols/wide_root.py).

A normalised row does not depend on the scale of x. So a row of n elements is centred without a division:
n x - sum(x) is exact and local, and 1/n goes into the root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols.reciprocal import digits_of
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.wide_root import HIGHEST

ROOT_FRACTION = 28
MOST_UP = 6
ROOTED_FRACTION = 22  # fraction bits of x times the root, if the scale comes after it
FRACTION = RESTING.fraction
PRODUCT = RESTING.finer(FRACTION)  # the format of squares
HELD = RESTING.bits - 3  # bits of a result before it is truncated
FINE_NORM = 2.0**12  # rows up to this norm are read with all their fraction bits
LARGEST_NORM = 2.0**20  # without a calibrated bound
SMALLEST_EPSILON = 2.0**-34  # two units of deviation: the rounding of a constant row does not grow


class Centring(Enum):
    """How rows become free of their mean."""

    # They keep it.
    NONE = "none"
    # n z - sum(z) of an untruncated product z is truncated: the product's own truncation centres it.
    TERMS = "terms"
    # n x - sum(x), local: x times the scale gains the bits of n, and n times the sum of squares is read.
    EXACT = "exact"
    # A truncated mean is subtracted, in two rounds: for rows so large that n times them does not fit.
    MEAN = "mean"


@dataclass(frozen=True)
class Rows:
    """How a value is normalised: over its last axes, in rows of `count` elements.

    It is read as u, which is x times `stretch`: a factor of every row, which the root cancels.
    """

    shape: tuple[int, ...]
    # The first normalised axis.
    axis: int
    centring: Centring
    epsilon: float
    # A bound of the norm of every row of x, less its mean if that is subtracted.
    norm: float = LARGEST_NORM
    # The largest factor of the result, which decides how many bits x scale and the root may have. If it is
    # not known, x is multiplied by the root first, in two more rounds.
    scale: float = math.inf
    # The largest addend of the result.
    bias: float = 0.0
    # How the root is found.
    way: Way = Way.MASKED
    # Bits above a word in which the twins keep the roots for the product with them; 0: they are Replicated.
    wider: int = 0

    @cached_property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(self.axis, len(self.shape)))

    @cached_property
    def count(self) -> int:
        return math.prod(self.shape[self.axis :])

    @cached_property
    def number(self) -> int:
        return math.prod(self.shape[: self.axis])

    @cached_property
    def narrow(self) -> tuple[int, ...]:
        """The shape of one number a row."""
        return (*self.shape[: self.axis], *([1] * len(self.axes)))

    @cached_property
    def centred(self) -> bool:
        return self.centring is not Centring.NONE

    @cached_property
    def divided(self) -> int:
        """n x - sum(x) is read as if divided by 2 to this power."""
        if self.centring not in (Centring.TERMS, Centring.EXACT):
            return 0
        least = self.count.bit_length() - 1
        if self.centring is Centring.EXACT:
            return least
        stretched = self.norm * self.count / 2.0**least
        return least + (FINE_NORM < stretched <= 2 * FINE_NORM)

    @cached_property
    def stretch(self) -> float:
        return self.count / 2.0**self.divided if self.divided else 1.0

    @cached_property
    def size(self) -> float:
        """A bound of the norm of every row of u."""
        return self.norm * self.stretch

    @cached_property
    def weight(self) -> float:
        """What is read is this many times the sum of squares of u."""
        return self.count / self.stretch**2 if self.centring is Centring.EXACT else 1.0

    @cached_property
    def reach(self) -> float:
        """A bound of the root of what is read."""
        return self.size * math.sqrt(self.weight)

    @cached_property
    def longest(self) -> float:
        """Rows of x must be shorter than this."""
        return max(self.norm, FINE_NORM / (self.stretch * math.sqrt(self.weight)))

    @cached_property
    def offset(self) -> float:
        """The addend of what is read, and so the least number under the root."""
        return max(self.epsilon * self.stretch**2, SMALLEST_EPSILON) * self.count * self.weight

    @cached_property
    def gain(self) -> float:
        """The root's factor: u times the root has deviation one."""
        return math.sqrt(self.count * self.weight)

    @cached_property
    def digits(self) -> tuple[int, int]:
        """The digits of a sum of squares that is read with all its fraction bits."""
        largest = min(self.reach, FINE_NORM) ** 2 + self.offset
        low, high = digits_of(self.offset, largest, PRODUCT)
        return low, (high if self.reach <= FINE_NORM else HIGHEST)

    @cached_property
    def shift(self) -> int:
        """Fraction bits that a row drops for the coarse reading; 0: there is none.

        The ring shrinks by as many bits, and each bit doubles the sum of squares that fits.
        """
        if self.reach <= FINE_NORM:
            return 0
        return max(4, 2 * exponent(self.reach) - 26)

    @cached_property
    def beyond(self) -> int:
        """The additional fraction bits of a root, for rows larger than usual."""
        return min(max(0, exponent(self.size / LARGEST_NORM)), 4)

    @cached_property
    def root_first(self) -> bool:
        return math.isinf(self.scale)

    @cached_property
    def centred_up(self) -> int:
        """Fraction bits beyond FRACTION of centred rows: all those that they have, or as many as a mean is
        worth, whose rounding the root multiplies.
        """
        if self.centring is Centring.EXACT:
            return self.divided
        if self.centring is not Centring.MEAN:
            return 0
        return MOST_UP if self.root_first else min(MOST_UP, max(0, self._room))

    @cached_property
    def scale_fraction(self) -> int:
        """The most fraction bits that the scale may have for x scale to fit."""
        return FRACTION if self.root_first else min(FRACTION, max(4, FRACTION + self._room - self.centred_up))

    @cached_property
    def _room(self) -> int:
        """Bits that x scale leaves free in a word."""
        return PRODUCT.bits - 2 - PRODUCT.fraction - exponent(self.size) - self._scale_bits

    @cached_property
    def _scale_bits(self) -> int:
        return 0 if self.root_first else exponent(max(self.scale, 2.0**-8))

    @cached_property
    def _result_bits(self) -> int:
        """Integer bits of the result before the truncation, and of the bias."""
        row = self._scale_bits + exponent(math.sqrt(self.count))
        return max(row, exponent(self.bias) + 1) if self.bias and not self.root_first else row

    @cached_property
    def product_fraction(self) -> int:
        """Fraction bits of x scale, whose rounding the root multiplies; or of x root, if that is first."""
        if self.root_first:
            return ROOTED_FRACTION
        held = HELD - self._result_bits - ROOT_FRACTION - self.beyond
        return max(2, min(held, FRACTION + self.centred_up + self.scale_fraction - 1))

    @cached_property
    def root_fraction(self) -> int:
        before = FRACTION + self.centred_up if self.root_first else self.product_fraction
        return min(ROOT_FRACTION + self.beyond, HELD - self._result_bits - before)

    @cached_property
    def exact(self) -> bool:
        """Whether n x - sum(x) and n times a sum of squares fit: in two readings, if not in one."""
        return not self.root_first and self.reach <= LARGEST_NORM and self._room >= self.divided

    @cached_property
    def largest_result(self) -> float:
        """The result must stay below this."""
        held = self.product_fraction + (self.scale_fraction if self.root_first else self.root_fraction)
        return RESTING.at(held).largest


def exponent(x: float) -> int:
    """The least k with x <= 2^k, the same on every machine."""
    mantissa, power = math.frexp(x)
    return power - 1 if mantissa == 0.5 else power
