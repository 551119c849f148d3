"""Text from another machine, made harmless before anybody prints or logs it.

A version, a label or a message of an error is what its sender wants it to be. On a terminal a control
character in it is a command (colours, the title, a cleared screen, a line that overwrites another), and one
that changes the direction of writing shows another text than is there; in a log a line's end forges the
next entry.
"""

from __future__ import annotations

import unicodedata

LONGEST = 4000
SHORT = 100  # of a version, a state, a label

_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"), " ")
_HIDDEN = (
    "Cc",
    "Cf",
    "Cs",
    "Co",
    "Cn",
)  # control, format (direction, zero width), lone surrogates, no character


def plain_text(text: str, longest: int = LONGEST) -> str:
    """`text` in one line and without anything but characters that are seen; no longer than `longest`.

    Ends of lines and tabs become spaces, what is not seen becomes U+FFFD.
    """
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    if text.isascii() and text.isprintable():
        return text
    line = text.translate(_SPACES)
    return "".join("\ufffd" if unicodedata.category(char) in _HIDDEN else char for char in line)
