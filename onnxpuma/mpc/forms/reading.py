"""Reading ahead: blocks of packed matrices, read and made from keys before the products that take them.

A plan is public and fixed, so it is known from the start which matrices a run reads and in which order.
Threads of their own fill a window of blocks, bounded by its bytes, while the run computes or waits for words;
a block is dropped after its product. A matrix that a run takes out of turn is read on the spot: the order
decides how fast a run is, never what it computes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

from onnxpuma.mpc.forms.source import ALIGNED, KeySource, MemorySource, Source
from onnxpuma.mpc.ring.arrays import PAGE, pages

BLOCK = 1 << 22  # bytes of one component in a block: rows enough that to arrange the factor costs little
WINDOW = 1 << 25  # bytes that are read ahead, unless a caller says more


class Block(NamedTuple):
    """Rows of a matrix, and where their packed words lie in each component."""

    start: int  # the first row
    stop: int
    offset: int  # in bytes, a multiple of ALIGNED
    size: int  # in bytes


Part = tuple[Block, memoryview, memoryview]  # a block, with its words of both components


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
        """The matrix in blocks of about BLOCK bytes a component."""
        step = max(1, 8 * BLOCK // max(1, self._row_bits) // self.unit) * self.unit
        return [self.between(start, start + step) for start in range(0, self.shape[0], step)]

    @cached_property
    def room(self) -> int:
        """Bytes that a block with both components needs, each from the start of a page on."""
        return max((2 * -(-block.size // PAGE) * PAGE for block in self.blocks), default=0)

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
    def in_memory(self) -> bool:
        """Whether nothing of it has to be read or made from a key."""
        return all(isinstance(source, MemorySource) for source in self.sources)


@dataclass
class StreamUse:
    """What the products with streamed weights took in one run at one party."""

    # From files.
    bytes_read: int = 0
    # Made from keys.
    key_bytes: int = 0
    # Spent by the readers, beside the run.
    reading_seconds: float = 0.0
    key_seconds: float = 0.0
    # Spent by the run: in products, and in wait for blocks.
    product_seconds: float = 0.0
    stalled_seconds: float = 0.0


class Reading:
    """The matrices that a run takes, in their order, read ahead. Close it when the run ends, however it ends.

    window: bytes of blocks that are held at a time, one at the least. readers: threads.
    """

    def __init__(self, order: Sequence[Stored] = (), window: int = WINDOW, readers: int = 1) -> None:
        self.use = StreamUse()
        self._due = deque(_Pass(stored) for stored in order if stored.blocks and not stored.in_memory)
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

    def parts(self, stored: Stored) -> Iterator[Part]:
        """The blocks of a matrix in their order. The bytes of a part are gone when the next one is asked for.

        Raises what a source raises, and after the last block an OnnxpumaError if the bytes of a component are
        not those that were stored.
        """
        checks = [source.passing() for source in stored.sources]
        for part in self._next(stored):
            for check, data in zip(checks, part[1:], strict=True):
                if check is not None:
                    check.update(data)
            yield part
        for check in checks:
            if check is not None:
                check.finish()

    def _next(self, stored: Stored) -> Iterator[Part]:
        one = next((one for one in self._due if one.stored is stored), None)
        if one is None or one is not self._due[0]:
            if one is not None:
                self._give_up(one)
            room = pages(0 if stored.in_memory else stored.room)
            for block in stored.blocks:
                yield self._count(_read(stored, block, room))
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
            self._ahead.append(_Ahead(one, room, self._pool.submit(_read, one.stored, block, room)))

    def _count(self, done: _Done) -> Part:
        self.use.bytes_read += done.bytes_read
        self.use.key_bytes += done.key_bytes
        self.use.reading_seconds += done.reading_seconds
        self.use.key_seconds += done.key_seconds
        return done.part


class _Pass:
    """One matrix, each time that the run takes it."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.taken = False  # out of turn


class _Ahead(NamedTuple):
    """A block that is being read, or waits for its product."""

    of: _Pass
    room: memoryview
    read: Future[_Done]


@dataclass
class _Done:
    """A block that was read, and what that took."""

    part: Part
    bytes_read: int = 0
    key_bytes: int = 0
    reading_seconds: float = 0.0
    key_seconds: float = 0.0


def _read(stored: Stored, block: Block, room: memoryview) -> _Done:
    half = len(room) // 2
    halves = [room[: block.size], room[half : half + block.size]]
    done = _Done((block, halves[0], halves[1]))
    for place, source in enumerate(stored.sources):
        began = perf_counter()
        if isinstance(source, MemorySource):
            halves[place] = source.view(block.offset, block.size)
            continue
        source.read(block.offset, halves[place])
        spent = perf_counter() - began
        if isinstance(source, KeySource):
            done.key_bytes += block.size
            done.key_seconds += spent
        else:
            done.bytes_read += block.size
            done.reading_seconds += spent
    done.part = (block, halves[0], halves[1])
    return done
