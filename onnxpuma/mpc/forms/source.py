"""Where the packed words of one component of an array come from: a key's stream, memory or a file.

A source yields any part of its array at any time, from any thread, so a product can take an array that does
not fit into memory block by block (streamed.py). Files are read elsewhere (roles/shared).
"""

from __future__ import annotations

from typing import Protocol

from onnxpuma.mpc.ring import key_stream, matmul_keyed
from onnxpuma.mpc.ring.blended import Stream
from onnxpuma.mpc.ring.keys import BLOCK_BYTES
from onnxpuma.mpc.ring.words import Words

ALIGNED = BLOCK_BYTES  # where a part may begin, since a key's stream has blocks of so many bytes


class Source(Protocol):
    """The packed words of one component of one array (`ring.pack`'s order)."""

    def read(self, start: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `start` on, a multiple of ALIGNED."""

    def passing(self) -> Passing | None:
        """A check of the whole array, whose bytes are about to pass; None where none is due."""


class Passing(Protocol):
    """The check of an array whose bytes pass in their order."""

    def update(self, data: memoryview) -> None:
        """The next bytes."""

    def finish(self) -> None:
        """After the last byte: raises an OnnxpumaError if these were not the array's bytes."""


class KeySource:
    """The stream of a key for array number `index`: AES-CTR, its counter the index and a block number."""

    def __init__(self, key: bytes, index: int) -> None:
        self._key, self._index = key, index

    def read(self, start: int, out: memoryview) -> None:
        key_stream(self._key, self._index, start // ALIGNED, out)

    def passing(self) -> None:
        """A key's stream cannot be damaged."""

    def view(self, start: int, size: int) -> Stream:
        """A part of its words, which a product makes itself."""
        return Stream(self._key, self._index, start)

    def product(self, x: Words, bits: int, shape: tuple[int, int], out: Words, turned: bool) -> float:
        """Add x @ w, or x @ w.T, to out, and make the words of w on the way (`ring.matmul_keyed`): they are
        never in memory. The seconds that they took."""
        return matmul_keyed(x, self._key, self._index, bits, shape, out, turned)


class MemorySource:
    """Packed words that stay in memory."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, start: int, out: memoryview) -> None:
        out[:] = self._data[start : start + len(out)]

    def passing(self) -> None:
        """They were checked when they came into memory."""

    def view(self, start: int, size: int) -> memoryview:
        """A part of them, without a copy."""
        return self._data[start : start + size]
