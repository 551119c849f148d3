"""A line below a text that is still growing: how far the current run is, what it sent, how long it takes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable

from onnxpuma.commands import screen
from onnxpuma.errors import plain_text
from onnxpuma.observe import Standing
from onnxpuma.plan.examine.layers import layer_of

EVERY = 0.1  # seconds between two drawings
FIRST_SHARE = 0.05  # of a run, from which its length is told

# The line below the cursor exists after "index" and "reverse index", also at the end of the screen. Then:
# remember the place, go to the line below, write, and go back (DEC's control sequences).
_ROOM, _BELOW, _BACK = "\x1bD\x1bM", "\x1b7\x1b[1E", "\x1b8"


class StandingLine:
    """Draws on stderr, if that is a terminal; `clear` before anything else is printed.

    names: of the nodes of the model, which tell how many layers it has.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        found = (layer_of(name) for name in names)
        self._layers = 1 + max((layer for layer in found if layer is not None), default=-1)
        self._drawn = False
        self._next = 0.0
        self._title = ""
        self._layer: int | None = None
        self._before: float | None = None  # seconds of the last run
        self._seconds = 0.0

    def begin(self, title: str) -> None:
        """The next run begins: `title` says what it is for."""
        if self._seconds:
            self._before = self._seconds
        self._title, self._layer, self._seconds = title, None, 0.0

    def show(self, now: Standing) -> None:
        """Draw, but not too often."""
        self._seconds = max(self._seconds, now.seconds)
        layer = layer_of(now.label)
        if layer is not None:
            self._layer = max(layer, self._layer or 0)
        moment = time.monotonic()
        if moment < self._next or not sys.stderr.isatty():
            return
        self._next = moment + EVERY
        width = shutil.get_terminal_size().columns - 1
        self._write(f"{_ROOM}{_BELOW}\x1b[2m{self.told(now)[:width]}\x1b[22m\x1b[K{_BACK}")
        self._drawn = True

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._write(f"{_BELOW}\x1b[2K{_BACK}")
            self._drawn = False

    def told(self, now: Standing) -> str:
        """What the line says."""
        if not now.seconds:
            return f"{self._title}: {plain_text(now.label)}"
        share = now.done / max(now.steps, 1)
        if self._layer is not None and self._layers:
            where = f"layer {self._layer + 1} of {self._layers}"
        else:
            where = f"step {now.done:,} of {now.steps:,}"
        told = f"{self._title}: {where}, {screen.size(now.bytes_sent)} sent by server 0"
        left = self._left(now.seconds, share)
        return told if left is None else f"{told}, {screen.duration(max(left, 0.001))} to go"

    def _left(self, seconds: float, share: float) -> float | None:
        """Seconds to go: as the last run took, and from then on by the steps done."""
        if self._before is not None and seconds < self._before:
            return self._before - seconds
        return seconds / share - seconds if share >= FIRST_SHARE else None

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            screen.abandon(sys.stderr)
