"""The reader of gettext catalogues, beside Python's own."""

from __future__ import annotations

import gettext
import struct
from pathlib import Path

from pretrained.catalogues import messages, references

TEXTS = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "Enter a valid URL.": "Saisissez une URL valide.",
    "month\x04You may enter it once.": "Entrée unique.",
    "The %s is not there.": "%s manque.",
    "Too few words": "Trop peu",
}


def written(file: Path) -> None:
    """A catalogue of these texts, in the order and form that gettext demands."""
    pairs = [(text.encode(), TEXTS[text].encode()) for text in sorted(TEXTS)]
    table, at = 28, 28 + 16 * len(pairs)
    tables, strings = [b"", b""], b""
    for side in (0, 1):
        for pair in pairs:
            tables[side] += struct.pack("<2I", len(pair[side]), at + len(strings))
            strings += pair[side] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), table, table + 8 * len(pairs), 0, 0)
    file.parent.mkdir(parents=True)
    file.write_bytes(head + tables[0] + tables[1] + strings)


def test_texts_and_translations_are_those_of_gettext(tmp_path: Path) -> None:
    file = tmp_path / "app" / "locale" / "fr" / "LC_MESSAGES" / "app.mo"
    written(file)
    with file.open("rb") as opened:
        theirs = gettext.GNUTranslations(opened)
    found = dict(messages(file))
    assert found["Enter a valid URL."] == theirs.gettext("Enter a valid URL.")
    assert found["You may enter it once."] == theirs.pgettext("month", "You may enter it once.")
    assert references(tmp_path) == {
        "Enter a valid URL.": "Saisissez une URL valide.",
        "You may enter it once.": "Entrée unique.",
    }
