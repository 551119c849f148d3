"""Work that is done in pieces, between other things that its thread does: a greenlet that pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from greenlet import getcurrent, greenlet

_Result = TypeVar("_Result")
ASK_SECONDS = 5e-4  # between two questions whether to pause: each may poll sockets


def _never() -> bool:
    return False


class Pieces(Generic[_Result]):
    """A result that `work` makes in pieces.

    work: is given a function to call again and again, which returns when the work may go on. All pieces are
    done in the thread of the first one.
    """

    def __init__(self, work: Callable[[Callable[[], None]], _Result]) -> None:
        self._greenlet = greenlet(self._run)
        self._work = work
        self._until: Callable[[], bool] = _never
        self._asked = 0.0  # when the condition was asked last, of `perf_counter`
        self._thread = threading.get_ident()
        # None until the work has ended, and after an error.
        self.result: _Result | None = None

    @property
    def own(self) -> bool:
        """Whether this thread may go on with it."""
        return threading.get_ident() == self._thread

    def go_on(self, until: Callable[[], bool] = _never) -> bool:
        """Work until the condition holds, or to the end. Whether that is reached. The condition is asked at
        pauses, ASK_SECONDS after this call or the last question. Raises what the work raises, which also ends
        it."""
        if not self._greenlet.dead:
            self._until, self._asked = until, time.perf_counter()
            self._greenlet.parent = getcurrent()
            self._greenlet.switch()
        return bool(self._greenlet.dead)

    def _run(self) -> None:
        self.result = self._work(self._pause)

    def _pause(self) -> None:
        if time.perf_counter() < self._asked + ASK_SECONDS:
            return
        if self._until():
            parent = self._greenlet.parent
            assert parent is not None
            parent.switch()
        else:
            self._asked = time.perf_counter()
