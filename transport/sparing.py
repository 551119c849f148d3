"""A log that strangers cannot flood: of similar lines, only a limited number is written per time window."""

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
    """Passes `most` records of one kind in `seconds`; the next one after that tells how many were left out.

    Parts of a record's text come from others, so it is cut to one printable line of limited length. Errors
    may have several lines, as tracebacks do.

    Records of one kind share a level and a format string: whoever provokes them chooses the names and
    addresses filled in, not the format. Add this filter to a logger, not to a handler.
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
        """How many records were left out in windows that have ended; each is counted once."""
        now, total = time.monotonic(), 0
        with self._lock:
            for kind, window in list(self._windows.items()):
                if now > window.began + self.seconds:
                    total += window.left_out
                    del self._windows[kind]
        return total


def _plain(text: str, *, lines: bool) -> str:
    """`text` without anything that a terminal would obey, cut to a length that suits a log."""
    longest = LONGEST * (8 if lines else 1)
    kept = "".join(c if c.isprintable() or (lines and c == "\n") else "?" for c in text[:longest])
    return kept if len(text) <= longest else f"{kept} ... ({len(text)} characters)"


def spare(name: str) -> None:
    """Keep the logger of this name silent until a program configures logging, and sparing after that."""
    logger = logging.getLogger(name)
    logger.addHandler(logging.NullHandler())
    logger.addFilter(Sparing())


def tell_left_out(name: str) -> None:
    """Log how many lines of this logger were left out since the last report; call it now and then."""
    logger = logging.getLogger(name)
    total = sum(part.overdue() for part in logger.filters if isinstance(part, Sparing))
    if total:
        logger.warning("%d more lines like earlier ones were left out", total)
