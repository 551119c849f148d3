"""Canaries in pauses of their own, for a client whose requests come as people send them.

Right beside a request that nothing follows for a while, a canary would be one of a pair, and every request
alone would be an ordinary one. So its pause is one of those that lay between requests of late.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

RECENT = 32  # pauses from which one is drawn


class Spread:
    """Runs one thing after the other on a thread, each after its pause."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._pauses: deque[float] = deque(maxlen=RECENT)
        self._last: float | None = None
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def note(self, then: Callable[[], None] | None) -> None:
        """A request leaves now. then: is to run some time after it, once a pause is known; None: nothing."""
        now = time.monotonic()
        with self._changed:
            if self._last is not None:
                self._pauses.append(now - self._last)
            self._last = now
            if then is None or not self._pauses or self._closed:
                return
            self._due.append((now + self._draw.choice(self._pauses), then))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="onnxpuma-canaries", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Begin nothing more, and wait for what runs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (then := self._next()) is not None:
            then()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                first = min(self._due, key=lambda entry: entry[0], default=None)
                left = None if first is None else first[0] - time.monotonic()
                if first is not None and left is not None and left <= 0:
                    self._due.remove(first)
                    return first[1]
                self._changed.wait(left)
        return None
