"""The log of a server on stderr: a line for each request, and for each peer or client that comes and goes.

text   2026-05-17T08:30:00.123+00:00 info: request 1f2e3d4c of clinic begins
json   {"time": "2026-05-17T08:30:00.123+00:00", "level": "info", "logger": "...", "message": "..."}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum

from onnxpuma.errors import plain_lines


class LogFormat(str, Enum):
    """How a line of the log is written."""

    text = "text"
    json = "json"


class LogLevel(str, Enum):
    """What is the least that gets into the log."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@contextmanager
def log_on_stderr(format: LogFormat, level: LogLevel) -> Iterator[None]:
    """Write the log of this package to stderr."""
    handler = _OnStderr()
    handler.setFormatter(_AsJson() if format is LogFormat.json else _AsText())
    logger = logging.getLogger("onnxpuma")
    logger.addHandler(handler)
    logger.setLevel(level.value.upper())
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _OnStderr(logging.StreamHandler):
    """Writes lines without commands to a terminal; a line that cannot be written is lost."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Serve on, even if the disk behind stderr is full or its reader is gone."""


class _AsText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{_time(record)} {record.levelname.lower()}: {record.getMessage()}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return plain_lines(text)


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)  # escapes whatever a terminal would obey


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
