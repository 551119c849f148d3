"""A log that others cannot fill: of lines that are alike only so many are written in some seconds."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

MOST = 20
SECONDS = 10.0
KINDS = 1024
LONGEST = 2000  # characters


@dataclass
class _Window:
    began: float
    written: int = 0
    left_out: int = 0


class Sparing(logging.Filter):
    """Lets `most` records of one kind pass in `seconds`; the next one tells how many were left out.

    Their text is cut to a line of some length that can be printed: parts of it come from others. Errors may
    have several lines, as tracebacks do.

    Records are of one kind when they have the same level and the same text before anything is filled in:
    whoever provokes them chooses names and addresses, not texts. Add it to a logger, not to a handler.
    """

    def __init__(self, most: int = MOST, seconds: float = SECONDS) -> None:
        super().__init__()
        self.most, self.seconds = most, seconds
        self._windows: OrderedDict[tuple[int, str], _Window] = OrderedDict()
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.levelno, str(record.msg)), time.monotonic()
        with self._lock:
            window = self._windows.get(kind)
            left_out = 0
            if window is None or now > window.began + self.seconds:
                left_out = 0 if window is None else window.left_out
                window = self._windows[kind] = _Window(now)
            self._windows.move_to_end(kind)
            if len(self._windows) > KINDS:
                self._windows.popitem(last=False)
            if window.written >= self.most:
                window.left_out += 1
                return False
            window.written += 1
        text = record.getMessage()
        if left_out:
            text = f"{text} (and {left_out} more like the last ones)"
        record.msg, record.args = _plain(text, lines=record.levelno >= logging.ERROR), None
        return True

    def overdue(self) -> int:
        """How many records were left out in windows that are over; each is told once."""
        now, total = time.monotonic(), 0
        with self._lock:
            for kind, window in list(self._windows.items()):
                if now > window.began + self.seconds:
                    total += window.left_out
                    del self._windows[kind]
        return total


def _plain(text: str, *, lines: bool) -> str:
    """`text` with nothing in it that a terminal would obey, and no longer than a log needs."""
    longest = LONGEST * (8 if lines else 1)
    kept = "".join(c if c.isprintable() or (lines and c == "\n") else "?" for c in text[:longest])
    return kept if len(text) <= longest else f"{kept} ... ({len(text)} characters)"


def spare(name: str) -> None:
    """Let the logger of this name write nothing unless its user asks for it, and then no more than that."""
    logger = logging.getLogger(name)
    logger.addHandler(logging.NullHandler())
    logger.addFilter(Sparing())


def tell_left_out(name: str) -> None:
    """Write how many lines of this logger were left out and not told yet; to be called now and then."""
    logger = logging.getLogger(name)
    total = sum(part.overdue() for part in logger.filters if isinstance(part, Sparing))
    if total:
        logger.warning("%d more lines like earlier ones were left out", total)
