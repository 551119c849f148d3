"""Where the words of messages and of key streams go: arrays that stay, filled in one call of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.packing import unpack
from onnxpuma.mpc.ring.words import Words, word_type


class Places:
    """Contiguous arrays of the narrowest words of so many bits each; None for words that nobody reads."""

    def __init__(self, arrays: Sequence[tuple[Words | None, int]]) -> None:
        self._arrays = tuple(arrays)
        self._kernel = native()
        self._held = None if self._kernel is None else self._kernel.places(list(arrays))
        self.views = tuple([as_bytes(array) for array, _ in arrays if array is not None])
        self.longest = max(map(len, self.views), default=0)
        # Bytes of a stream that draws of them take; 0 where one has none.
        self.total = sum([drawn(len(view)) for view in self.views]) if all(map(len, self.views)) else 0

    def unpack(self, buffers: list[Any]) -> None:
        """Overwrite the arrays with the words of a buffer each, as `ring.pack` packed them.

        Raises ProtocolError for another number of buffers, or of bytes in one.
        """
        if len(buffers) != len(self._arrays):
            raise ProtocolError(f"{len(buffers)} buffers for {len(self._arrays)} arrays", "report this fault")
        if self._kernel is not None:
            try:
                self._kernel.unpack_all(self._held, buffers)
            except ValueError as error:
                raise ProtocolError(
                    f"words of other bytes than announced: {error}", "report this fault"
                ) from error
            return
        for buffer, (array, bits) in zip(buffers, self._arrays, strict=True):
            if array is not None:
                array[...] = unpack(buffer, bits, array.shape)

    def fill(self, stream: np.ndarray, offset: int) -> None:
        """Overwrite all arrays with the next `total` bytes of a stream, as draws of each would take them."""
        if self._kernel is not None:
            self._kernel.fill(self._held, stream, offset)
            return
        for view in self.views:
            view[:] = stream.data[offset : offset + len(view)]
            offset += drawn(len(view))


def drawn(size: int) -> int:
    """Bytes of a stream that a short draw of so many takes: the next begins at a multiple of 8."""
    return -(-size // 8) * 8


def as_bytes(words: Words) -> memoryview:
    """The bytes of a contiguous array."""
    return words.reshape(-1).view(word_type(8)).data
