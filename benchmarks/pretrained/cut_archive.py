"""A ZIP archive that was cut into parts, readable with only those parts that contain the wanted files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class CutArchive(io.RawIOBase):
    """The bytes of the whole archive. parts: number, from 1 -> file; the last one is the archive's end, and
    all others have one size."""

    def __init__(self, parts: Mapping[int, Path]) -> None:
        self._parts = dict(parts)
        last = max(parts)
        self._part = next(path.stat().st_size for number, path in parts.items() if number != last)
        self._size = (last - 1) * self._part + parts[last].stat().st_size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Raises FileNotFoundError for bytes of a missing part."""
        number, offset = divmod(self._at, self._part)
        count = max(0, min(len(buffer), self._part - offset, self._size - self._at))
        if not count:
            return 0
        if number + 1 not in self._parts:
            raise FileNotFoundError(f"part {number + 1} of the archive is missing")
        with self._parts[number + 1].open("rb") as file:
            file.seek(offset)
            buffer[:count] = file.read(count)
        self._at += count
        return count


def extract(parts: Mapping[int, Path], inside: str, folder: Path) -> None:
    """Write the files directly inside the archive's folder `inside` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BufferedReader(CutArchive(parts))) as archive:
        for name in archive.namelist():
            before, _, file = name.rpartition("/")
            if before == inside and file:
                (folder / file).write_bytes(archive.read(name))
