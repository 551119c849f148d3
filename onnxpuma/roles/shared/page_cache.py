"""Which pages of the file of words the system keeps, where its cache cannot hold all of them.

Every run passes over the streamed arrays in the same order. A cache that gives up what was read longest ago
gives up each page shortly before a run needs it again, so all of the file comes from the disk in every run.
Therefore a share of each array stays, and the reader gives up the rest itself, some way behind the place
where it reads: the other party of the same machine is not far away, and finds these pages as well.
"""

from __future__ import annotations

import os
import threading
from collections import deque

LAG = 1 << 29  # bytes between the place of reading and the pages that are given up


class PageCache:
    """The pages of one file, as its readers pass over them. Everything stays until `limit`."""

    def __init__(self, file: int) -> None:
        """file: its descriptor."""
        self._file = file
        self._share = 1.0
        self._behind: deque[tuple[int, int]] = deque()  # places and sizes that were read and need not stay
        self._bytes = 0
        self._lock = threading.Lock()

    def limit(self, streamed: int, room: int) -> None:
        """Keep a share of each array: of `streamed` bytes in all, those that `room` bytes of memory hold."""
        fits = room >= streamed or not hasattr(os, "posix_fadvise")
        self._share = 1.0 if fits else max(0, room - LAG) / streamed

    def passed(self, array: tuple[int, int], start: int, size: int) -> None:
        """Bytes `start` to `start + size` of an array, itself a place and a size in the file, were read."""
        if start < self._share * array[1]:
            return
        with self._lock:
            self._behind.append((array[0] + start, size))
            self._bytes += size
            while self._bytes > LAG:
                place, count = self._behind.popleft()
                self._bytes -= count
                os.posix_fadvise(self._file, place, count, os.POSIX_FADV_DONTNEED)
