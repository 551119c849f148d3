"""English texts and their French translations by people, from the gettext catalogues of a package."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

WORDS = 4  # of a text at least
MARKUP = re.compile(r"[%{}<>\0\n_\\=/`]")  # placeholders, plural forms, HTML


def messages(file: Path) -> Iterator[tuple[str, str]]:
    """The texts of a gettext catalogue (.mo) and their translations, without their contexts."""
    raw = file.read_bytes()
    _, _, count, *tables = struct.unpack_from("<5I", raw)
    for row in range(count):
        text, translated = (_text(raw, table + 8 * row) for table in tables)
        yield text.rpartition("\x04")[2], translated


def _text(raw: bytes, entry: int) -> str:
    length, offset = struct.unpack_from("<2I", raw, entry)
    return raw[offset : offset + length].decode("utf-8")


def references(folder: Path) -> dict[str, str]:
    """Text -> its translation, of all catalogues below this folder: those of some words, without markup."""
    found: dict[str, str] = {}
    for file in sorted(folder.rglob("locale/fr/LC_MESSAGES/*.mo")):
        for text, translated in messages(file):
            if len(text.split()) >= WORDS and not MARKUP.search(text):
                found.setdefault(text, translated)
    return found
