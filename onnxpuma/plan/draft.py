"""A file that appears whole: written beside its place under an unguessable name, then moved there.

Nothing is written through a link or into an existing file. Any file of that name is replaced, be it a link
that somebody planted or a file that others may read.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from onnxpuma.errors import ConfigError

PRIVATE = 0o600
PUBLIC = 0o644

_LEFT_OVER = re.compile(r"\.[0-9a-f]{32}\.partial")


class Draft:
    """The future file at `path`. Write to `file`; then `finish` and `commit`; `discard` in any case.

    mode: its permissions, before the umask of the process. Raises OSError where it cannot be written.
    """

    def __init__(self, path: Path, mode: int = PUBLIC) -> None:
        self._path = path
        self._partial = path.with_name(f".{secrets.token_hex(16)}.partial")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.file: BinaryIO = os.fdopen(os.open(self._partial, flags, mode), "w+b")

    def finish(self) -> None:
        """Flush everything to the disk. A full disk raises its error here at the latest."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def commit(self) -> None:
        """Move the file to its path, in place of any file there."""
        os.replace(self._partial, self._path)

    def discard(self) -> None:
        """Remove the draft; does nothing after `commit`."""
        with suppress(OSError):  # on a full disk the buffer cannot be written, and need not be
            self.file.close()
        self._partial.unlink(missing_ok=True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write these files, readable by everybody, all or none. Raises as `drafts_of`."""
    drafts = drafts_of(folder, files)
    try:
        for draft in drafts:
            draft.commit()
    finally:
        for draft in drafts:
            draft.discard()


def drafts_of(folder: Path, files: Mapping[str, bytes], mode: int = PUBLIC) -> list[Draft]:
    """A finished draft of each file. files: path in the folder -> content. Inner folders are created; what
    a killed process left in them goes.

    Raises OSError where they cannot be written, ConfigError where an inner folder is a link.
    """
    drafts: list[Draft] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for inner in dict.fromkeys((folder / name).parent for name in files):
            if inner != folder:
                _make(inner)
        for name, content in files.items():
            drafts.append(Draft(folder / name, mode))
            drafts[-1].file.write(content)
            drafts[-1].finish()
    except BaseException:
        for draft in drafts:
            draft.discard()
        raise
    return drafts


def remove_left_over(folder: Path) -> None:
    """Remove the drafts that a killed process left behind."""
    for path in folder.iterdir():
        if _LEFT_OVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _make(inner: Path) -> None:
    if inner.is_symlink():
        raise ConfigError(f"{inner} is a link", "remove it, or choose an empty folder")
    inner.mkdir(parents=True, exist_ok=True)
    remove_left_over(inner)
