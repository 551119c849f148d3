"""The functions that create arrays. Protocols call these and the methods of forms, never numpy's creators.

Another array library takes numpy's place in mpc/ring and mpc/forms; tests/test_house.py checks that no other
module of mpc creates an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.ring.noted import filled_beside, noted
from onnxpuma.mpc.ring.words import Words, word_type

PAGE = 4096  # bytes of memory
Shape: TypeAlias = "int | tuple[int, ...]"
Indices: TypeAlias = npt.NDArray[np.int64]


def empty(shape: Shape, bits: int) -> Words:
    """Words of Z_2^bits that the caller overwrites."""
    return np.empty(shape, word_type(bits))


def pages(size: int) -> memoryview:
    """Room for so many bytes, from the start of a page on: a copy between two places that lie a few bytes
    apart within their pages is several times slower."""
    room = np.empty(size + PAGE, np.uint8)
    start = -room.ctypes.data % PAGE
    return room[start : start + size].data


def within(buffer: Any, offset: int, shape: Shape, bits: int) -> Words:
    """Words of Z_2^bits that lie in a buffer from this byte on, a multiple of 8; no copy."""
    return np.ndarray(shape, word_type(bits), buffer, offset)


def zeros(shape: Shape, bits: int, beside: Words | None = None) -> Words:
    """beside: words that the caller has, where it will overwrite the zeros with what follows from them."""
    return filled_beside(beside, np.zeros(shape, word_type(bits)))


def ones(shape: Shape, bits: int) -> Words:
    return np.ones(shape, word_type(bits))


def filled(shape: Shape, value: int, bits: int, beside: Words | None = None) -> Words:
    """`value` mod 2^bits everywhere. beside: as in `zeros`."""
    kind = word_type(bits)
    return filled_beside(beside, np.full(shape, kind.type(value % (1 << bits)), kind))


@lru_cache(maxsize=1024)
def nothing(shape: tuple[int, ...], bits: int) -> Words:
    """A stand-in for words that this party does not hold: a read-only zero of that shape, without memory."""
    return np.broadcast_to(np.zeros((), word_type(bits)), shape)


def constants(values: Any, bits: int) -> Words:
    """Python integers from 0 to 2^bits - 1, as words."""
    return np.array(values, word_type(bits))


def counting(count: int, bits: int) -> Words:
    """0, 1, 2 ... as words."""
    return np.arange(count, dtype=word_type(bits))


def indices(start: int, stop: int | None = None) -> Indices:
    """start, start + 1 ... below stop, or from 0 to below start: places in an array, which are public."""
    return np.arange(start) if stop is None else np.arange(start, stop)


def integers(values: npt.ArrayLike) -> Indices:
    """Public integers."""
    return np.asarray(values, np.int64)


def exact(values: Sequence[int]) -> npt.NDArray[np.object_]:
    """Public integers of any size."""
    return np.array(values, object)


@noted
def flat(words: Words) -> Words:
    """The words along one axis, contiguous; a copy only where they are not."""
    return np.ascontiguousarray(words).reshape(-1)


@noted
def looked_up(table: Any, index: Any) -> Any:
    """Entries of a public table."""
    return table[index]


@noted
def contiguous(words: Words) -> Words:
    """The words in memory one after the other; a copy only where they are not."""
    return np.ascontiguousarray(words)


def joined(parts: Iterable[Any], axis: int = 0) -> Any:
    """Arrays end to end along an existing axis."""
    return np.concatenate(list(parts), axis=axis)


def stacked(parts: Iterable[Any], axis: int = 0) -> Any:
    """Arrays side by side along a new axis."""
    return np.stack(list(parts), axis=axis)


def read(buffer: Any, bits: int) -> Words:
    """The words that lie in a buffer, without a copy."""
    return np.frombuffer(buffer, word_type(bits))


def as_plane(bits: npt.NDArray[Any], axis: int | None = None) -> Words:
    """Bits packed eight to a byte, the first one lowest: of the flattened array, or along an axis."""
    return np.packbits(bits, axis=axis, bitorder="little")


def unpacked(packed: Words, size: int | None = None, axis: int | None = None) -> Words:
    """The first `size` bits of a plane as bytes, 0 or 1; of several planes along an axis."""
    return np.unpackbits(packed, axis=axis, count=size, bitorder="little")
