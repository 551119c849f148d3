"""Stop words: a text that comes in pieces ends before the first of them."""

from __future__ import annotations

from collections.abc import Sequence


class Until:
    """Passes text on until one of `words` occurs. The end of a piece that may begin one is held back."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = [word for word in words if word]
        self.found = False
        self.rest = ""  # held back; part of the text if no more comes

    def add(self, piece: str) -> str:
        """The text that is certain now."""
        text = self.rest + piece
        places = [place for word in self._words if (place := text.find(word)) >= 0]
        if places:
            self.found, self.rest = True, ""
            return text[: min(places)]
        held = max((_begun(text, word) for word in self._words), default=0)
        self.rest = text[len(text) - held :]
        return text[: len(text) - held]


def _begun(text: str, word: str) -> int:
    """The length of the longest end of `text` that begins `word`."""
    return next((n for n in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:n])), 0)
