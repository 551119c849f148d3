"""Long words: elements of Z_2^k, k up to 128, in two limbs of 64 bits.

A product of exact integers may need more bits than a machine word, where nothing may be rounded before it is
complete. The bits of the limbs above k are arbitrary, as those of a word are (words.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.ring.again import straight
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.noted import noted
from onnxpuma.mpc.ring.words import WIDEST, Words, word_type

LONGEST = 2 * WIDEST  # bits of the largest ring of long words

_HALF = np.uint64(WIDEST // 2)
_LOW_HALF = np.uint64((1 << WIDEST // 2) - 1)


class Long:
    """An array of long words. Sums and products broadcast as numpy's do, and wrap at 2^128."""

    __slots__ = ("high", "low")

    def __init__(self, low: Words, high: Words) -> None:
        self.low, self.high = low, high

    @classmethod
    def of_words(cls, words: Words) -> Long:
        """Words of a ring of up to 64 bits, from 0 to 2^64 - 1."""
        low = words.astype(np.uint64, copy=False)
        return cls(low, np.zeros(low.shape, np.uint64))

    @classmethod
    def of_integers(cls, values: npt.NDArray[np.int64]) -> Long:
        """Signed integers of 64 bits."""
        return cls(values.view(np.uint64), (values >> np.int64(WIDEST - 1)).view(np.uint64))

    @classmethod
    def constants(cls, values: Sequence[int]) -> Long:
        """Python integers mod 2^128, (len(values),)."""
        parts = [(v % (1 << WIDEST), (v >> WIDEST) % (1 << WIDEST)) for v in values]
        return cls(*(np.array(side, np.uint64) for side in zip(*parts, strict=True)))

    @classmethod
    def joined(cls, parts: Sequence[Long]) -> Long:
        """Long words end to end along the last axis."""
        if len(parts) == 1:
            return parts[0]
        low, high = [p.low for p in parts], [p.high for p in parts]
        return cls(np.concatenate(low, axis=-1), np.concatenate(high, axis=-1))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape

    def __repr__(self) -> str:
        return f"Long(shape={self.shape})"

    def __getitem__(self, index: Any) -> Long:
        return Long(self.low[index], self.high[index])

    def __add__(self, other: Long) -> Long:
        low = self.low + other.low
        return Long(low, self.high + other.high + (low < self.low))

    def __sub__(self, other: Long) -> Long:
        return Long(self.low - other.low, self.high - other.high - (self.low < other.low))

    def __mul__(self, other: Long) -> Long:
        return self._multiplied(other, False) or self._product(other)

    def dot(self, other: Long) -> Long:
        """The sum along the last axis of the products, which broadcast."""
        return self._multiplied(other, True) or self._product(other).total()

    def _multiplied(self, other: Long, total: bool) -> Long | None:
        """The products, or their sums, from the kernel; None where it has none."""
        out = _products(self.low, self.high, other.low, other.high, total)
        return None if out is None else Long(out[0], out[1])

    def _product(self, other: Long) -> Long:
        a, b = self.low, other.low
        a_low, a_high, b_low, b_high = a & _LOW_HALF, a >> _HALF, b & _LOW_HALF, b >> _HALF
        first, second = a_low * b_high, a_high * b_low
        middle = ((a_low * b_low) >> _HALF) + (first & _LOW_HALF) + (second & _LOW_HALF)
        carried = a_high * b_high + (first >> _HALF) + (second >> _HALF) + (middle >> _HALF)
        return Long(a * b, carried + a * other.high + self.high * b)

    def opposed(self, places: Words) -> Long:
        """-x where `places` (words) is 1, x where it is 0."""
        mask = np.uint64(0) - places.astype(np.uint64, copy=False)
        low = (self.low ^ mask) - mask
        return Long(low, (self.high ^ mask) + ((mask != 0) & (low == 0)))

    def kept(self, places: Words) -> Long:
        """x where `places` (words) is 1, 0 where it is 0."""
        mask = np.uint64(0) - places.astype(np.uint64, copy=False)
        return Long(self.low & mask, self.high & mask)

    def total(self) -> Long:
        """The sum along the last axis."""
        low = (self.low & _LOW_HALF).sum(axis=-1, dtype=np.uint64)
        high = (self.low >> _HALF).sum(axis=-1, dtype=np.uint64) + (low >> _HALF)
        carried = self.high.sum(axis=-1, dtype=np.uint64) + (high >> _HALF)
        return Long((high << _HALF) | (low & _LOW_HALF), carried)

    def lowered(self, bits: int, shift: int, up: bool) -> Words:
        """x / 2^shift of elements of Z_2^bits, rounded down or up: the low 64 bits of the quotient."""
        rounded = self + Long.constants([(1 << shift) - 1])[0] if up and shift else self
        low, high = rounded.low, rounded.high
        if bits < WIDEST:
            low = low & np.uint64((1 << bits) - 1)
        high = high & np.uint64((1 << max(bits - WIDEST, 0)) - 1) if bits < LONGEST else high
        if shift == 0:
            return low
        if shift >= WIDEST:
            return high >> np.uint64(shift - WIDEST)
        return (low >> np.uint64(shift)) | (high << np.uint64(WIDEST - shift))

    def shifted(self, bits: int, shift: int, up: bool) -> Long:
        """x / 2^shift as `lowered`, mod 2^(bits - shift); shift: below 64."""
        low = self.lowered(bits, shift, up)
        rounded = self + Long.constants([(1 << shift) - 1])[0] if up and shift else self
        high = rounded.high & np.uint64((1 << max(bits - WIDEST, 0)) - 1) if bits < LONGEST else rounded.high
        return Long(low, high >> np.uint64(shift))

    def raised(self, shift: int) -> Words:
        """The low 64 bits of 2^shift x."""
        return self.low << np.uint64(shift)

    def limbs(self, bits: int) -> list[tuple[Words, int]]:
        """The buffers that hold elements of Z_2^bits, and the bits of each."""
        if bits <= WIDEST:
            return [(self.low.astype(word_type(bits), copy=False), bits)]
        rest = bits - WIDEST
        return [(self.low, WIDEST), (self.high.astype(word_type(rest), copy=False), rest)]

    @classmethod
    def of_limbs(cls, limbs: Sequence[Words]) -> Long:
        """The elements whose buffers these are."""
        if len(limbs) == 1:
            return cls.of_words(limbs[0])
        return cls(limbs[0], limbs[1].astype(np.uint64, copy=False))


def _again(out: Words, low: Words, high: Words, other_low: Words, other_high: Words, total: bool) -> Any:
    """The call that overwrites what `_products` returned, with its arguments."""
    matrix = _matrix(np.broadcast(low, other_low).shape)
    return native().long_product, low, high, other_low, other_high, *matrix, out, total


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the products."""
    return (shape[0] if len(shape) == 2 else 1), shape[-1]


@noted
@straight(_again)
def _products(low: Words, high: Words, other_low: Words, other_high: Words, total: bool) -> Words | None:
    """Both limbs of products, or of their sums, from the kernel; None where it has none."""
    kernel = native()
    shape = np.broadcast(low, other_low).shape
    if kernel is None or not 1 <= len(shape) <= 2:
        return None
    out = np.empty((2, *(shape[:-1] if total else shape)), np.uint64)
    made = kernel.long_product(low, high, other_low, other_high, *_matrix(shape), out, total)
    return out if made else None


def limb_widths(bits: int) -> tuple[int, ...]:
    """Bits of the buffers of a long word."""
    return (bits,) if bits <= WIDEST else (WIDEST, bits - WIDEST)
