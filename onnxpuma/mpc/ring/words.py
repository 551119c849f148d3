"""Ring words: elements of Z_2^k in the narrowest unsigned numpy type, and reals as fixed point.

The bits of a word above k are arbitrary. `reduced` clears them where they matter: before a shift to the
right, a comparison or a look-up. Fixed point is round(x * 2^f) in two's complement.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

WIDEST = 64  # bits of the largest ring: words of it wrap by themselves

Words: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


_WIDTHS = (8, 16, 32, 64)
_TYPES = tuple(np.dtype(f"u{min(w for w in _WIDTHS if bits <= w) // 8}") for bits in range(WIDEST + 1))
_SCALARS = tuple(kind.type for kind in _TYPES)
_MASKS = tuple(scalar((1 << bits) - 1) for bits, scalar in enumerate(_SCALARS))
_INTEGERS, _LARGEST = np.dtype(np.int64), np.dtype(np.uint64)


def word_type(bits: int) -> np.dtype[Any]:
    """The narrowest unsigned type that holds `bits` bits (1 to 64)."""
    return _TYPES[bits]


def word(value: int, bits: int) -> Any:
    """One element of Z_2^bits, from 0 to 2^bits - 1, as a scalar of the word type."""
    return _SCALARS[bits](value)


def word_mask(bits: int) -> Any:
    """2^bits - 1 as a scalar of the word type."""
    return _MASKS[bits]


def reduced(words: Words, bits: int) -> Words:
    """The representatives in [0, 2^bits), in the narrowest type."""
    kind = _TYPES[bits]
    if words.dtype is kind:
        return words if bits == 8 * kind.itemsize else words & _MASKS[bits]
    return (words & words.dtype.type((1 << bits) - 1)).astype(kind, copy=False)


def resized(words: Words, bits: int) -> Words:
    """The same elements in the type of Z_2^bits, not reduced; bits: of their ring or a smaller one."""
    kind = _TYPES[bits]
    return words if words.dtype is kind else words.astype(kind, copy=False)


def signed(words: Words, bits: int) -> npt.NDArray[np.int64]:
    """Two's complement values of elements of Z_2^bits."""
    shift = WIDEST - bits
    return (words.astype(np.uint64) << np.uint64(shift)).view(np.int64) >> np.int64(shift)


def from_integers(values: npt.ArrayLike, bits: int) -> Words:
    """Integers mod 2^bits."""
    words: Words = np.asarray(values).astype(_INTEGERS).view(_LARGEST)
    return words if bits > 32 else words.astype(_TYPES[bits])


def encode(values: npt.ArrayLike, fraction_bits: int, bits: int = WIDEST) -> Words:
    """round(values * 2^fraction_bits) mod 2^bits; the caller keeps the values in that range."""
    scaled = np.asarray(values, np.float64) * 2.0**fraction_bits
    return (
        np.atleast_1d(np.rint(scaled))
        .astype(np.int64)
        .view(np.uint64)
        .reshape(scaled.shape)
        .astype(word_type(bits), copy=False)
    )


def decode(words: Words, fraction_bits: int, bits: int = WIDEST) -> npt.NDArray[np.float64]:
    """Reals from fixed point."""
    return signed(words, bits).astype(np.float64) * 2.0**-fraction_bits
