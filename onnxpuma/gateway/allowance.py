"""How much a caller may ask for in a minute: buckets that fill evenly, tokens reserved in advance."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from onnxpuma.gateway.refusal import Refused

MINUTE = 60.0

Clock = Callable[[], float]


class Bucket:
    """A minute's worth of something, full at first, that fills evenly. For one thread at a time."""

    def __init__(self, a_minute: int, clock: Clock = time.monotonic) -> None:
        self.size = a_minute
        self._level, self._clock, self._filled = float(a_minute), clock, clock()

    def wait(self, amount: float) -> float:
        """Seconds until `amount` (at most the whole bucket) can be taken; 0 if now."""
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._filled) * self.size / MINUTE)
        self._filled = now
        return max(0.0, (min(amount, self.size) - self._level) * MINUTE / self.size)

    def take(self, amount: float) -> None:
        """Take it, or with a negative amount give it back."""
        self._level = min(self.size, self._level - amount)


class Unlimited:
    """A caller without limits."""

    name = ""
    most_tokens: int | None = None

    def ask(self) -> None:
        """Count a request."""

    @contextmanager
    def reserved(self, prompt: int, most: int) -> Iterator[Callable[[int], None]]:
        yield lambda tokens: None


class Lease(Unlimited):
    """A caller with limits; None is no limit. All its requests share it, on any thread.

    most_tokens: that one request may have written.
    """

    def __init__(
        self,
        name: str,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        most_tokens: int | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name, self.most_tokens = name, most_tokens
        self._lock = Lock()
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute, clock)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute, clock)

    def ask(self) -> None:
        """Count a request. Raises Refused if there were too many in the last minute."""
        self._take(self._requests, 1, "requests")

    @contextmanager
    def reserved(self, prompt: int, most: int) -> Iterator[Callable[[int], None]]:
        """Reserve the tokens that a text may take, and at the end give back those that it did not.

        The block gets a function to which it tells the tokens that were written. Raises Refused if the caller
        has had too many in the last minute.
        """
        self._take(self._tokens, prompt + most, "tokens")
        written = 0

        def spent(tokens: int) -> None:
            nonlocal written
            written += tokens

        try:
            yield spent
        finally:
            if self._tokens is not None:
                reserved = min(prompt + most, self._tokens.size)
                with self._lock:
                    self._tokens.take(prompt + written - reserved)

    def _take(self, bucket: Bucket | None, amount: int, what: str) -> None:
        if bucket is None:
            return
        with self._lock:
            wait = bucket.wait(amount)
            if wait <= 0:
                bucket.take(min(amount, bucket.size))
                return
        raise Refused(
            f"this key may have {bucket.size} {what} a minute, and has had them",
            f"try again in {max(1, math.ceil(wait))} s",
            status=429,
            kind="rate_limit_error",
            code="rate_limit_exceeded",
            retry=wait,
        )
