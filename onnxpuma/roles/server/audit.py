"""The audit log: a line of JSON for each request, in a file that only its owner can read and nobody rewrites.

`logrotate` renames the file and then tells the server to reload, which opens the file anew under its name.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from onnxpuma.errors import ConfigError
from onnxpuma.roles.server.ledger import Entry

_log = logging.getLogger("onnxpuma.roles")


class Audit:
    """Appends to `path`, mode 0600. Raises ConfigError if that cannot be done.

    A line that cannot be written later, since the disk is full, is lost, and the log says so once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = self._stale = False
        try:
            self._file = _opened(path)
        except OSError as error:
            raise ConfigError(
                f"the audit log {path} cannot be opened: {error.strerror}",
                "name a file, in a folder where this user may write",
            ) from None

    def write(self, entry: Entry) -> None:
        """Append the line of this request."""
        line = json.dumps(_line(entry)) + "\n"
        try:
            if self._stale:
                self._renew()
            os.write(self._file, line.encode())
            self._failed = False
        except OSError as error:
            self._complain(error)

    def reopen(self) -> None:
        """From the next line on write to the file that has the name then; make it if there is none. A handler
        of signals may call this."""
        self._stale = True

    def _renew(self) -> None:
        new = _opened(self._path)
        self.close()
        self._file, self._stale = new, False

    def close(self) -> None:
        os.close(self._file)

    def _complain(self, error: OSError) -> None:
        if not self._failed:
            _log.error("the audit log %s cannot be written: %s", self._path, error.strerror)
        self._failed = True


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        os.fchmod(file, 0o600)
    except OSError:
        os.close(file)
        raise
    return file


def _line(entry: Entry) -> dict[str, Any]:
    return {
        "time": entry.arrived.isoformat(timespec="milliseconds"),
        "request": entry.id,
        "kind": entry.kind,
        "client": entry.client,
        "key": entry.key,
        "model": entry.model,
        "graph": entry.graph,
        "shapes": entry.shapes,
        "outputs": entry.outputs,
        "kept": entry.kept,
        "outcome": entry.outcome,
        "seconds": round(entry.seconds, 3),
        "waited": None if entry.waited is None else round(entry.waited, 3),
        "sent": entry.sent,
        "rounds": entry.rounds,
    }
