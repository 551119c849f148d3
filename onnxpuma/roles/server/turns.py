"""Whose request is next: clients take turns, and within what one client sent its connections do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol, TypeVar

from onnxpuma.config import LimitConfig
from onnxpuma.errors import BusyError
from onnxpuma.transport.client_port import Request

REMEMBERED = 4096  # connections


class Waiting(Protocol):
    """What waits for its turn."""

    request: Request


WaitingT = TypeVar("WaitingT", bound=Waiting)


class Turns:
    """Remembers who was served when."""

    def __init__(self) -> None:
        self._served = 0
        self._clients: dict[str, int] = {}
        self._connections: OrderedDict[bytes, int] = OrderedDict()

    def next(self, waiting: Iterable[WaitingT]) -> WaitingT | None:
        """Of those that could begin: the client that was served longest ago, of its connections the one that
        was served longest ago, of that one's requests the first in the order given; None for none."""

        def turn(one: WaitingT) -> tuple[int, int]:
            request = one.request
            return self._clients.get(request.client, 0), self._connections.get(request.route, 0)

        return min(waiting, key=turn, default=None)

    def begin(self, one: Waiting) -> None:
        """It is served now."""
        self._served += 1
        self._clients[one.request.client] = self._served
        self._connections[one.request.route] = self._served
        self._connections.move_to_end(one.request.route)
        if len(self._connections) > REMEMBERED:  # who was served before all others is next in any case
            self._connections.popitem(last=False)


def check_share(request: Request, waiting: Iterable[Request], limits: LimitConfig) -> None:
    """BusyError when the client of `request` has as many requests or bytes waiting as one client may."""
    own = [other for other in waiting if other.client == request.client]
    if len(own) >= limits.waiting:
        raise BusyError(
            f"{len(own)} requests of client {request.client} wait already",
            "wait for their answers; `waiting` under [limits] in cluster.toml says how many may wait",
        )
    size = sum(map(_bytes, own)) + _bytes(request)
    if own and size > limits.message_megabytes * 1_000_000:
        raise BusyError(
            f"the requests of client {request.client} that wait have {size / 1e6:.0f} MB",
            "wait for their answers; `message_megabytes` under [limits] in cluster.toml says what may wait",
        )


def _bytes(request: Request) -> int:
    return sum(map(len, request.public)) + sum(map(len, request.private))
