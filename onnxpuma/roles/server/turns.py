"""Whose request is next: clients take turns, and so do the connections of one client."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol, TypeVar

from onnxpuma.config import LimitConfig
from onnxpuma.errors import BusyError
from onnxpuma.transport.client_port import Request

REMEMBERED = 4096  # connections


class Waiting(Protocol):
    """A job that waits for its turn."""

    request: Request


WaitingT = TypeVar("WaitingT", bound=Waiting)


class Turns:
    """Remembers who was served when."""

    def __init__(self) -> None:
        self._served = 0
        self._clients: dict[str, int] = {}
        self._connections: OrderedDict[bytes, int] = OrderedDict()

    def next(self, waiting: Iterable[WaitingT]) -> WaitingT | None:
        """The next of the jobs that could begin; None if there are none.

        It is of the client served longest ago, of that client's connection served longest ago, and of that
        connection's jobs the first in the order given.
        """

        def turn(one: WaitingT) -> tuple[int, int]:
            request = one.request
            return self._clients.get(request.client, 0), self._connections.get(request.route, 0)

        return min(waiting, key=turn, default=None)

    def begin(self, one: Waiting) -> None:
        """Note that this job is served now."""
        self._served += 1
        self._clients[one.request.client] = self._served
        self._connections[one.request.route] = self._served
        self._connections.move_to_end(one.request.route)
        if len(self._connections) > REMEMBERED:  # a forgotten connection counts as served before all others
            self._connections.popitem(last=False)


def check_share(request: Request, waiting: Iterable[Request], limits: LimitConfig) -> None:
    """BusyError when the client of `request` already has as many requests or bytes waiting as it may."""
    own = [other for other in waiting if other.client == request.client]
    if len(own) >= limits.waiting:
        raise BusyError(
            f"{len(own)} requests of client {request.client} wait already",
            "wait for their answers; `waiting` under [limits] in cluster.toml limits how many may wait",
        )
    size = sum(map(bytes_of, own)) + bytes_of(request)
    if own and size > limits.message_megabytes * 1_000_000:
        raise BusyError(
            f"the requests of client {request.client} that wait have {size / 1e6:.0f} MB",
            "wait for their answers; `message_megabytes` under [limits] in cluster.toml limits their bytes",
        )


def bytes_of(request: Request) -> int:
    """The bytes of its buffers."""
    return sum(map(len, request.public)) + sum(map(len, request.private))
