"""Which requests a client sends again by itself: those that no server had begun when one of them left."""

from __future__ import annotations

import time
from dataclasses import dataclass

from onnxpuma.errors import StoppingError, TransportError

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 2.0
# A server that says it is stopping may be asked again and again. Connections that break without a word may be
# the request's own doing.
MOST_BREAKS = 3


@dataclass(slots=True)
class Try:
    """What is known of one request while its answers are due."""

    begun: bool = False  # a server has accepted it
    broken: bool = False  # a connection of this client broke


class Again:
    """The further tries of one request, all begun within `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_SECONDS
        self._breaks = 0

    def allows(self, error: TransportError, state: Try) -> bool:
        """Whether to send the request again after this error: no server can have run it."""
        if time.monotonic() + self._pause > self._deadline:
            return False
        if isinstance(error, StoppingError):
            return True
        self._breaks += 1
        return state.broken and not state.begun and self._breaks <= MOST_BREAKS

    def pause(self) -> None:
        """Wait before the next try, each time longer."""
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LAST_PAUSE_SECONDS)
