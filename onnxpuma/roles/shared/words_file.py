"""The file of words: component 2 of all weights, packed, which parties 1 and 2 hold; safetensors.

An owner writes it once, and gives parties 1 and 2 the same file. Alone it is noise. Beside the keys of
party 0 it is the model, so party 0 must never have it. Tensors are the packed words of the arrays, under
the arrays' names in the model's order. The metadata:

    format     "onnxpuma-words"
    digest     of the model
    dealing    16 random bytes, drawn each time a model is shared; the key files have the same
    checksum   SHA-256 of the head, with zeros in place of these 64 digits

The checksum covers every bit of the head. For the words of each array there is a tag in the key files
(tags.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from onnxpuma.errors import PlanError
from onnxpuma.mpc.format import Format
from onnxpuma.plan.draft import PRIVATE, Draft
from onnxpuma.roles.shared.keys_file import DEALING_BYTES, Dealing
from onnxpuma.roles.shared.page_cache import PageCache
from onnxpuma.roles.shared.tags import Tagging

WORDS = "words.safetensors"  # the name of the file in the folder of a shared model
FORMAT = "onnxpuma-words"
LONGEST_HEAD = 100_000_000  # the limit of safetensors itself
_PAGE = 4096  # bytes: words begin with a page, as the room does into which readers copy them
_CHECKSUM = re.compile(rb'"checksum":"[0-9a-f]{64}"')
_BLANK = b'"checksum":"' + b"0" * 64 + b'"'

Tensors = Mapping[str, tuple[tuple[int, ...], Format]]  # array -> its shape, and the format of its words


def tensor_entries(tensors: Tensors) -> dict[str, Any]:
    """The entries for these arrays in the head of the file."""
    entries: dict[str, Any] = {}
    place = 0
    for name, (shape, format) in tensors.items():
        size = format.bytes(math.prod(shape))
        plain = format.bits == 8 * format.word.itemsize  # else safetensors has no type for its words
        dtype, stored = (f"U{format.bits}", list(shape)) if plain else ("U8", [size])
        entries[name] = {"dtype": dtype, "shape": stored, "data_offsets": [place, place + size]}
        place += size
    return entries


def head_of(tensors: Tensors, digest: str, dealing: str) -> bytes:
    """All of the file that precedes the words."""
    metadata = {"format": FORMAT, "digest": digest, "dealing": dealing, "checksum": "0" * 64}
    text = json.dumps({"__metadata__": metadata, **tensor_entries(tensors)}, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _PAGE)
    head = len(text).to_bytes(8, "little") + text
    return head.replace(_BLANK, f'"checksum":"{hashlib.sha256(head).hexdigest()}"'.encode(), 1)


def size_of(tensors: Tensors, digest: str) -> int:
    """The bytes of the whole file."""
    words = sum(format.bytes(math.prod(shape)) for shape, format in tensors.values())
    return len(head_of(tensors, digest, "0" * 2 * DEALING_BYTES)) + words


class WordsWriter:
    """Writes the file as a draft, mode 0600, from its first byte to its last; `finish` and then `commit` put
    it in its place."""

    def __init__(self, folder: Path, tensors: Tensors, digest: str, dealing: Dealing) -> None:
        """tensors: all arrays, in the order in which `begin` names them. Raises OSError where it cannot be
        written, then and later."""
        self._due = {name: format.bytes(math.prod(shape)) for name, (shape, format) in tensors.items()}
        head = head_of(tensors, digest, dealing.id)
        self._secret = dealing.secret
        self._tags: dict[str, bytes] = {}
        self._name, self._left = "", 0
        self._tagging: Tagging | None = None
        self._draft = Draft(folder / WORDS, PRIVATE)
        try:
            self._draft.file.write(head)
        except BaseException:
            self._draft.discard()
            raise

    def begin(self, name: str) -> None:
        """The next bytes are those of this array."""
        self._end()
        assert name == list(self._due)[len(self._tags)], "arrays come in their order"
        self._name, self._left = name, self._due[name]
        self._tagging = Tagging(self._secret, name)

    def append(self, packed: memoryview) -> None:
        """The next packed words of the array, in any number of bytes."""
        assert self._tagging is not None, "an array has begun"
        self._left -= len(packed)
        self._tagging.update(packed)
        self._draft.file.write(packed)

    def finish(self) -> dict[str, bytes]:
        """After the last word: flush everything to the disk. The tag of each array, for the key files."""
        self._end()
        assert list(self._tags) == list(self._due), "every array was written"
        self._draft.finish()
        return self._tags

    def commit(self) -> None:
        """Take the place of an older file."""
        self._draft.commit()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        self._draft.discard()

    def _end(self) -> None:
        if self._tagging is not None:
            assert not self._left, f"{self._name} was written in whole"
            self._tags[self._name] = self._tagging.finish()
            self._tagging = None


class FileSource:
    """The packed words of one array, read from the file at any place, by any thread. No place is shared, and
    nothing is kept: the operating system caches pages (page_cache.py)."""

    def __init__(self, file: FileIO, pages: PageCache, offset: int, size: int) -> None:
        """file: open as long as this is read. offset, size: of the array in it, in bytes."""
        self.file, self.pages, self.offset, self.size = file, pages, offset, size

    def read(self, start: int, out: memoryview) -> None:
        """Fill `out`, of bytes, with those from `start` on. PlanError when the file ends before, or the disk
        fails."""
        self.pages.passed((self.offset, self.size), start, len(out))
        while len(out):
            try:
                count = os.preadv(self.file.fileno(), [out], self.offset + start)
            except OSError as error:
                raise damaged(self.file.name, f"it cannot be read: {error.strerror}") from error
            if not count:
                raise damaged(self.file.name, "it was cut short while it was in use")
            start, out = start + count, out[count:]


class WordsFile:
    """Opens the file, and checks its head and its size.

    Raises PlanError when it is missing or damaged, or belongs to another model or another sharing.
    """

    def __init__(self, path: Path, tensors: Tensors, digest: str, dealing: str) -> None:
        """dealing: hex, as the keys name it."""
        self.path = path
        try:
            self.file = FileIO(path)
        except OSError as error:
            raise PlanError(
                f"there is no file {path} that can be read: {error.strerror}",
                "parties 1 and 2 need it beside their keys: copy it from the model's owner, from the same"
                " call of `onnxpuma share`",
            ) from error
        self.pages = PageCache(self.file.fileno())
        try:
            self._check(tensors, digest, dealing)
        except BaseException:
            self.file.close()
            raise

    def source(self, name: str) -> FileSource:
        """The words of this array."""
        first, last = self._entries[name]["data_offsets"]
        return FileSource(self.file, self.pages, self._start + first, last - first)

    @property
    def stamp(self) -> tuple[int, ...]:
        """What changes when somebody writes to the file: its number, its size and the time of the last
        writing."""
        now = os.fstat(self.file.fileno())
        return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns

    def close(self) -> None:
        """No source of it can be read any more."""
        self.file.close()

    def _check(self, tensors: Tensors, digest: str, dealing: str) -> None:
        try:
            self._start, head = _read_head(self.file)
            metadata = head.pop("__metadata__")
            said = {entry: metadata[entry] for entry in ("format", "digest", "dealing")}
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            why = f"it does not begin as it should ({type(error).__name__})"
            raise damaged(self.path, why) from error
        if said["format"] != FORMAT:
            raise damaged(self.path, "it is no file of words")
        if said["digest"] != digest:
            raise PlanError(
                f"{self.path} belongs to another model than the skeleton beside it",
                "copy it from the folder from which skeleton.onnx, policy.json and the keys came",
            )
        if said["dealing"] != dealing:
            raise PlanError(
                f"{self.path} and the keys beside it come from different calls of `onnxpuma share`",
                "copy both again from the model's owner, from one and the same folder",
            )
        self._entries = tensor_entries(tensors)
        if head != self._entries:
            raise damaged(self.path, "its arrays are not the model's")
        due = self._start + max((entry["data_offsets"][1] for entry in head.values()), default=0)
        size = os.fstat(self.file.fileno()).st_size
        if size != due:
            how = "is cut short" if size < due else "is too long"
            raise damaged(self.path, f"it {how}: {size:,} bytes, {due:,} are due")


def _read_head(file: FileIO) -> tuple[int, dict[str, Any]]:
    """The place of the first word; and the head, with a checksum that matches. Raises ValueError or TypeError
    for any other bytes."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if not 0 < length <= LONGEST_HEAD:
        raise ValueError(length)
    text = file.read(length)
    found = _CHECKSUM.findall(text)
    checksum = hashlib.sha256(prefix + _CHECKSUM.sub(_BLANK, text)).hexdigest()
    if len(text) != length or found != [f'"checksum":"{checksum}"'.encode()]:
        raise ValueError("checksum")
    head = json.loads(text)
    if not isinstance(head, dict):
        raise TypeError(type(head))
    return 8 + length, head


def damaged(path: object, why: str) -> PlanError:
    """The error for a file in which something is wrong."""
    return PlanError(f"{path} is damaged: {why}", "copy it again from the model's owner")
