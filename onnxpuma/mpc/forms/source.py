"""Where the packed words of one component of an array come from: a key's stream, memory or a file.

A source yields any part of its array at any time, from any thread, so a product can take an array that does
not fit into memory block by block (streamed.py). Files are read elsewhere (roles/shared).
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

ALIGNED = 16  # bytes: where a part may begin, since a key's stream has blocks of so many
_PIECE = 1 << 18  # bytes of a key's stream at a time: the zeros that are encrypted stay in the cache
_ZEROS = memoryview(bytes(_PIECE))


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
        self._cipher, self._index = AES(key), index
        self._ready: tuple[int, CipherContext] | None = None  # a stream, and the byte that it yields next

    def read(self, start: int, out: memoryview) -> None:
        # One thread at a time gets the ready stream; where it stands elsewhere, another is set up.
        ready, self._ready = self._ready, None
        stream = ready[1] if ready is not None and ready[0] == start else self._stream_from(start)
        for place in range(0, len(out), _PIECE):
            piece = out[place : place + _PIECE]
            stream.update_into(_ZEROS[: len(piece)], piece)
        if len(out) % ALIGNED == 0:
            self._ready = start + len(out), stream

    def passing(self) -> None:
        """A key's stream cannot be damaged."""

    def _stream_from(self, start: int) -> CipherContext:
        counter = self._index << 64 | start // ALIGNED
        return Cipher(self._cipher, CTR(counter.to_bytes(ALIGNED, "big"))).encryptor()


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
