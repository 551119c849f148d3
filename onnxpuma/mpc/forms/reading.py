"""Reading ahead: blocks of packed matrices, read from the disk before the products that take them.

A plan is public and fixed, so it is known from the start which matrices a run reads and in which order.
Threads of their own fill a window of blocks, bounded by its bytes, while the run computes or waits for words;
a block is dropped after its product. A matrix that a run takes out of turn is read on the spot: the order
decides how fast a run is, never what it computes. What a key makes is made by the product itself (source.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

from onnxpuma.mpc.forms.source import ALIGNED, KeySource, MemorySource, Source
from onnxpuma.mpc.ring.arrays import PAGE, pages

BLOCK = 1 << 22  # bytes of one component in a block: rows enough that to arrange the factor costs little
WINDOW = 1 << 25  # bytes that are read ahead, unless a caller says more


class Block(NamedTuple):
    """Rows of a matrix, and where their packed words lie in a component."""

    start: int  # the first row
    stop: int
    offset: int  # in bytes, a multiple of ALIGNED
    size: int  # in bytes


Part = tuple[Block, memoryview]  # a block, with its words of one component


class Rows:
    """How the rows of a matrix of packed words fall into blocks; it depends on shape and bits alone."""

    def __init__(self, shape: tuple[int, int], bits: int) -> None:
        self.shape, self.bits = shape, bits
        self._row_bits = shape[1] * bits
        # Every so many rows one begins at a multiple of ALIGNED bytes.
        self.unit = 8 * ALIGNED // math.gcd(8 * ALIGNED, self._row_bits)

    @property
    def size(self) -> int:
        """Bytes of one component."""
        return -(-self.shape[0] * self._row_bits // 8)

    @cached_property
    def blocks(self) -> list[Block]:
        """A component in blocks of about BLOCK bytes."""
        step = max(1, 8 * BLOCK // max(1, self._row_bits) // self.unit) * self.unit
        return [self.between(start, start + step) for start in range(0, self.shape[0], step)]

    @cached_property
    def room(self) -> int:
        """Bytes that a block needs, in whole pages."""
        return max((-(-block.size // PAGE) * PAGE for block in self.blocks), default=0)

    def between(self, start: int, stop: int) -> Block:
        """The rows from `start`, a multiple of `unit`, up to `stop` or the last one."""
        stop = min(stop, self.shape[0])
        offset = start * self._row_bits // 8
        return Block(start, stop, offset, -(-stop * self._row_bits // 8) - offset)


class Stored(Rows):
    """A matrix at one party: two components of packed words, row after row, wherever they come from."""

    def __init__(self, sources: tuple[Source, Source], shape: tuple[int, int], bits: int) -> None:
        super().__init__(shape, bits)
        self.sources = sources

    @property
    def on_disk(self) -> list[Source]:
        """Those of its sources that have to be read."""
        return [source for source in self.sources if not isinstance(source, KeySource | MemorySource)]


@dataclass
class StreamUse:
    """What the products with streamed weights took in one run at one party."""

    # From files.
    bytes_read: int = 0
    # Made from keys.
    key_bytes: int = 0
    # Spent by the readers, beside the run.
    reading_seconds: float = 0.0
    # Spent within products, by all their threads together.
    key_seconds: float = 0.0
    # Spent by the run: in products, and in wait for blocks.
    product_seconds: float = 0.0
    stalled_seconds: float = 0.0

    @contextmanager
    def product(self) -> Iterator[None]:
        """Count what runs within as a product."""
        began = perf_counter()
        yield
        self.product_seconds += perf_counter() - began


class Reading:
    """The matrices that a run takes, in their order, read ahead. Close it when the run ends, however it ends.

    window: bytes of blocks that are held at a time, one at the least. readers: threads.
    """

    def __init__(self, order: Sequence[Stored] = (), window: int = WINDOW, readers: int = 1) -> None:
        self.use = StreamUse()
        self._due = deque(_Pass(stored, source) for stored in order for source in stored.on_disk)
        self._room = max((one.stored.room for one in self._due), default=0)
        self._most = max(1, window // max(1, self._room))
        self._ahead: deque[_Ahead] = deque()
        self._coming = iter([(one, block) for one in self._due for block in one.stored.blocks])
        self._free: list[memoryview] = []
        self._pool = ThreadPoolExecutor(readers, "onnxpuma-reader") if self._due else None
        self._fill()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; returns when no thread is left."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._coming = iter(())
        self._ahead.clear()
        self._due.clear()
        self._free.clear()

    def parts(self, stored: Stored, source: Source) -> Iterator[Part]:
        """The blocks of one of its components, in their order. The bytes of a part are gone when the next one
        is asked for.

        Raises what the source raises, and after the last block an OnnxpumaError if the bytes are not those
        that were stored.
        """
        check = source.passing()
        for part in self._next(stored, source):
            if check is not None:
                check.update(part[1])
            yield part
        if check is not None:
            check.finish()

    def _next(self, stored: Stored, source: Source) -> Iterator[Part]:
        one = next((one for one in self._due if one.source is source), None)
        if one is None or one is not self._due[0]:
            if one is not None:
                self._give_up(one)
            room = pages(stored.room)
            for block in stored.blocks:
                yield self._count(_read(source, block, room))
            return
        self._due.popleft()
        for _ in stored.blocks:
            began = perf_counter()
            ahead = self._ahead.popleft()
            part = self._count(ahead.read.result())
            self.use.stalled_seconds += perf_counter() - began
            yield part
            self._free.append(ahead.room)
            self._fill()

    def _give_up(self, one: _Pass) -> None:
        """Do not read ahead what is taken now, before its turn."""
        one.taken = True
        self._due.remove(one)
        for ahead in [ahead for ahead in self._ahead if ahead.of is one]:
            ahead.read.cancel()
            self._ahead.remove(ahead)
        self._fill()

    def _fill(self) -> None:
        while self._pool is not None and len(self._ahead) < self._most:
            one, block = next(((one, block) for one, block in self._coming if not one.taken), (None, None))
            if one is None or block is None:
                return
            room = self._free.pop() if self._free else pages(self._room)
            self._ahead.append(_Ahead(one, room, self._pool.submit(_read, one.source, block, room)))

    def _count(self, done: _Done) -> Part:
        self.use.bytes_read += len(done.part[1])
        self.use.reading_seconds += done.seconds
        return done.part


class _Pass:
    """One component of a matrix, each time that the run takes it."""

    def __init__(self, stored: Stored, source: Source) -> None:
        self.stored, self.source = stored, source
        self.taken = False  # out of turn


class _Ahead(NamedTuple):
    """A block that is being read, or waits for its product."""

    of: _Pass
    room: memoryview
    read: Future[_Done]


class _Done(NamedTuple):
    """A block that was read, and the seconds that this took."""

    part: Part
    seconds: float


def _read(source: Source, block: Block, room: memoryview) -> _Done:
    began = perf_counter()
    source.read(block.offset, room[: block.size])
    return _Done((block, room[: block.size]), perf_counter() - began)
