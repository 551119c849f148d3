"""An array becomes the packed words of component 2, a block at a time, on threads of its own.

While one block is dealt another is read and converted, and the caller writes a third. A block is read into
fresh memory, from the place of the file where it lies (graph/by_rows.py), so memory holds a few blocks
whatever the size of the array.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from onnxpuma.graph.model import Initializer
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.source import KeySource
from onnxpuma.mpc.ring.arrays import empty

_BLOCK = 1 << 18  # elements dealt at a time, a multiple of 128: words of any width end with a block of AES
_MOST_THREADS = 8

Packed = tuple[memoryview, float]  # the bytes of a block, and the largest magnitude in it


class Packing:
    """Threads that deal arrays, until `close`."""

    def __init__(self) -> None:
        self._threads = min(os.cpu_count() or 1, _MOST_THREADS)
        self._pool = ThreadPoolExecutor(self._threads)

    def close(self) -> None:
        """Stop; blocks that nobody waits for are not dealt."""
        self._pool.shutdown(cancel_futures=True)

    def packed(
        self, weight: Initializer, format: Format, keys: Sequence[bytes], index: int
    ) -> Iterator[Packed]:
        """Component 2 of an array in blocks, in their order, with the largest magnitude of each, NaN where a
        number is not finite.

        keys: of components 0 and 1. index: the array's number among those dealt under them. Raises ModelError
        where the array cannot be read.
        """
        read = _flat(weight)
        sources = [KeySource(key, index) for key in keys]
        due: deque[Future[Packed]] = deque()
        for start in range(0, weight.size, _BLOCK):
            if len(due) > self._threads:
                yield due.popleft().result()
            stop = min(start + _BLOCK, weight.size)
            due.append(self._pool.submit(_dealt, read, start, stop, format, sources))
        while due:
            yield due.popleft().result()


def _dealt(
    read: Callable[[int, int], np.ndarray],
    start: int,
    stop: int,
    format: Format,
    sources: Sequence[KeySource],
) -> Packed:
    size = format.bytes(stop - start)
    first, second, out = (empty(size, 8) for _ in range(3))
    for source, stream in zip(sources, (first, second), strict=True):
        source.read(start * format.bits // 8, stream.data)
    largest = ring.deal_packed(read(start, stop), format.fraction, format.bits, first, second, out)
    return out.data, largest


def _flat(weight: Initializer) -> Callable[[int, int], np.ndarray]:
    """A function that reads elements start to stop of the array, laid out row by row."""
    columns = weight.shape[-1] if weight.shape else 1
    if columns > _BLOCK:  # every block would read a whole row
        values = weight.numpy().reshape(-1)
        return lambda start, stop: values[start:stop]
    rows = weight.rows()

    def read(start: int, stop: int) -> np.ndarray:
        first = start // columns
        values = rows(first, -(-stop // columns)).reshape(-1)
        return values[start - first * columns : stop - first * columns]

    return read
