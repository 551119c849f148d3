"""Which requests may wait at a server: an overloaded one says at once when to try again.

A client has a share of the queue (turns.py) and may ask so often a minute; all clients together have the
whole queue. The time after which another try may succeed follows from the runs of late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from onnxpuma.config import LimitConfig
from onnxpuma.errors import BusyError
from onnxpuma.roles.server.turns import bytes_of, check_share
from onnxpuma.transport.client_port import Request

SHORTEST = 0.1  # seconds that a client is asked to wait
NEWEST = 0.2  # weight of the latest run in the averages
MINUTE = 60.0


@dataclass
class _Allowance:
    """Requests that a client may still make now; it grows with time up to a minute's."""

    left: float
    since: float


class Admission:
    """Decides whether a request may wait."""

    def __init__(self) -> None:
        self._seconds = SHORTEST  # of a run
        self._together = 1.0  # requests of a run
        self._beside = 1.0  # runs under way at a time
        self._allowances: dict[str, _Allowance] = {}

    def ran(self, seconds: float, requests: int, runs: int = 1) -> None:
        """Note how long a run took, how many requests it computed, and how many runs were under way."""
        self._seconds += NEWEST * (seconds - self._seconds)
        self._together += NEWEST * (requests - self._together)
        self._beside += NEWEST * (runs - self._beside)

    def wait(self, requests: int) -> float:
        """About how many seconds this many requests take."""
        runs = math.ceil(requests / self._together - 0.1)
        return max(SHORTEST, runs * self._seconds / self._beside)

    def check(self, request: Request, waiting: Iterable[Request], limits: LimitConfig) -> None:
        """BusyError, with `retry_after`, for a request that may not wait."""
        others = list(waiting)
        try:
            check_share(request, others, limits)
        except BusyError as error:
            own = sum(other.client == request.client for other in others)
            raise _later(error.message, error.hint, self.wait(own)) from None
        if len(others) >= limits.queue:
            raise _later(
                f"{len(others)} requests wait already",
                "`queue` under [limits] in cluster.toml limits how many may wait",
                self.wait(len(others)),
            )
        size = sum(map(bytes_of, others)) + bytes_of(request)
        if others and size > limits.queue_megabytes * 1_000_000:
            raise _later(
                f"the requests that wait have {size / 1e6:.0f} MB",
                "`queue_megabytes` under [limits] in cluster.toml limits their bytes",
                self.wait(len(others)),
            )
        self._spend(request.client, limits.requests_a_minute)

    def _spend(self, client: str, allowed: int) -> None:
        if not allowed:
            return
        now = time.monotonic()
        own = self._allowances.setdefault(client, _Allowance(allowed, now))
        own.left = min(allowed, own.left + (now - own.since) * allowed / MINUTE)
        own.since = now
        if own.left < 1:
            raise _later(
                f"client {client} has made {allowed} requests in a minute",
                "`requests_a_minute` under [limits] in cluster.toml limits how many it may make",
                (1 - own.left) * MINUTE / allowed,
            )
        own.left -= 1


def _later(message: str, hint: str, seconds: float) -> BusyError:
    return BusyError(message, f"try again in {seconds:.2g} s; {hint}", seconds)
