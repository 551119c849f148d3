"""The format of a word: the ring it belongs to, and the scale at which it is read as a number.

A form, an operand of a plan and a stored weight each carry their format. A value that rests in 40, 48 or 54
bits is therefore a choice of the planner, and no kernel depends on it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.ring.words import WIDEST, Words, decode, encode, word_mask, word_type
from onnxpuma.standard.fixed_point import FRACTION


class Format(NamedTuple):
    """Words of Z_2^bits that stand for w / 2^fraction, in two's complement."""

    bits: int
    fraction: int

    @property
    def word(self) -> np.dtype[Any]:
        """The type of one word."""
        return word_type(self.bits)

    @property
    def mask(self) -> Any:
        """2^bits - 1, a scalar of that type."""
        return word_mask(self.bits)

    @property
    def unit(self) -> float:
        """The number that one unit in the last place stands for."""
        return 2.0**-self.fraction

    @property
    def largest(self) -> float:
        """Truncations and lifts are correct for numbers below this in magnitude."""
        return 2.0 ** (self.bits - 2 - self.fraction)

    @property
    def held(self) -> int:
        """The memory of one value at one party, in bytes: two components."""
        return 2 * self.word.itemsize

    def bytes(self, count: int) -> int:
        """The bytes of `count` packed words."""
        return -(-count * self.bits // 8)

    def at(self, fraction: int) -> Format:
        """The same ring at another scale."""
        return Format(self.bits, fraction)

    def finer(self, bits: int) -> Format:
        """The format of a product: the same ring, `bits` more below the point and as many fewer above it."""
        return Format(self.bits, self.fraction + bits)

    def modulo(self, bits: int) -> Format:
        """The same scale in another ring."""
        return Format(bits, self.fraction)

    def lowered(self, shift: int) -> Format:
        """`shift` bits fewer below the point, and in all."""
        return Format(self.bits - shift, self.fraction - shift)

    def raised(self, shift: int) -> Format:
        """`shift` bits more below the point, and in all."""
        return Format(self.bits + shift, self.fraction + shift)

    def encode(self, values: npt.ArrayLike) -> Words:
        """round(values * 2^fraction) mod 2^bits; the caller keeps the values in that range."""
        return encode(values, self.fraction, self.bits)

    def decode(self, words: Words) -> npt.NDArray[np.float64]:
        """The numbers that these words stand for."""
        return decode(words, self.fraction, self.bits)


RESTING = Format(WIDEST, FRACTION)  # of a real number between two steps, unless a model declares another
WHOLE = Format(WIDEST, 0)  # of an integer or a boolean
