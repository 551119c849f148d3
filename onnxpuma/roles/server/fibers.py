"""Several runs in one thread: each gives way to the others while it waits for words.

A run is a fiber (a greenlet) of the server's only thread, so sockets, kernels and caches see one caller at a
time, and no lock is needed. A fiber gives way where it would wait for a message of a peer, and at the end of
a round when it has computed for a while; nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import zmq
from greenlet import greenlet

from onnxpuma.roles.request.ahead import Ahead
from onnxpuma.transport import sockets
from onnxpuma.transport.chained import WrappedLink
from onnxpuma.transport.inbox import Arrival, silence
from onnxpuma.transport.link import Buffer, Tag, Traffic, as_bytes
from onnxpuma.transport.zeromq import PeerLink

LONE_SECONDS = 0.05  # that a lone fiber may compute before the caller of `go_on` looks at other things
WAIT_SECONDS = 0.02  # after which a lone fiber that has to wait gives way
SLICE_SECONDS = 0.005  # that a fiber may compute before it gives way to others


def plan_ahead(ahead: Ahead, listening: Sequence[zmq.Socket[bytes]], seconds: float) -> None:
    """Make plans ahead until one of these sockets can be read, for a while at most: a server has to look
    about."""
    end = time.monotonic() + seconds
    ahead.go_on(lambda: sockets.readable(listening) or time.monotonic() > end)


class Fiber:
    """One piece of work. `wait` and `pass_on` are called by the work itself, the rest by its owner."""

    def __init__(self, among: Fibers, work: Callable[[Fiber], None]) -> None:
        self._among = among
        self._greenlet = greenlet(lambda: work(self))
        self._until: Callable[[], bool] | None = None
        self._resumed = 0.0

    def wait(self, until: Callable[[], bool]) -> None:
        """Give way until the condition holds."""
        self._until = until
        self._leave()

    @property
    def may_wait(self) -> bool:
        """Whether the work may wait where it is: it is the only one, and has not gone on for long."""
        return len(self._among) == 1 and time.monotonic() < self._resumed + WAIT_SECONDS

    def pass_on(self) -> None:
        """Give way for a moment, if the work has gone on for long without."""
        allowed = LONE_SECONDS if len(self._among) == 1 else SLICE_SECONDS
        if time.monotonic() > self._resumed + allowed:
            self._leave()

    def _leave(self) -> None:
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()

    @property
    def waits(self) -> bool:
        return self._until is not None

    @property
    def ended(self) -> bool:
        return bool(self._greenlet.dead)

    def ready(self) -> bool:
        """Whether it can go on."""
        return self._until is None or self._until()

    def resume(self) -> None:
        """Go on with the work until it gives way or ends. Raises what the work raises."""
        self._until, self._resumed = None, time.monotonic()
        self._greenlet.switch()

    def throw(self, error: Exception) -> None:
        """Raise this error where the work gave way."""
        self._until = None
        self._greenlet.throw(error)


class Fibers:
    """The fibers of one thread, which take turns."""

    def __init__(self) -> None:
        self._all: list[Fiber] = []

    def __len__(self) -> int:
        return len(self._all)

    def start(self, work: Callable[[Fiber], None]) -> Fiber:
        """A new fiber, which works until it first gives way. Raises what the work raises."""
        fiber = Fiber(self, work)
        self._all.append(fiber)
        self._switch(fiber, fiber.resume)
        return fiber

    def go_on(self) -> bool:
        """Resume each fiber that can go on, once. False if all wait now, as far as is known. Raises what the
        work of one raises."""
        went = False
        for fiber in list(self._all):
            if fiber.ready():
                went = True
                self._switch(fiber, fiber.resume)
        # What a lone fiber waits for was not there a moment ago.
        return went and (len(self._all) != 1 or not self._all[0].waits)

    def throw(self, fiber: Fiber, error: Exception) -> None:
        """Raise an error where the work of a fiber gave way."""
        self._switch(fiber, lambda: fiber.throw(error))

    def _switch(self, fiber: Fiber, to: Callable[[], None]) -> None:
        try:
            to()
        finally:
            if fiber.ended:
                self._all.remove(fiber)


class FiberLink(WrappedLink):
    """The link of one run, whose fiber gives way while it waits. It counts the traffic of this run alone."""

    inner: PeerLink

    def __init__(self, link: PeerLink, fiber: Fiber, ahead: Ahead | None = None) -> None:
        """ahead: plans to make while the fiber waits."""
        super().__init__(link)
        self._fiber, self._traffic, self._ahead = fiber, Traffic(), ahead

    @property
    def traffic(self) -> Traffic:  # type: ignore[override]
        return self._traffic

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        size, header = self.inner.post(peer, tag, [as_bytes(buffer) for buffer in buffers])
        self._traffic.count_sent(peer, size, header)

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        arrival = self.inner.take(peer, tag) or self._awaited(peer, tag)
        self._traffic.count_received(peer, arrival.size, arrival.header_bytes)
        return arrival.buffers

    def _awaited(self, peer: int, tag: Tag) -> Arrival:
        """What `take` yields, once it is there."""
        link = self.inner
        deadline = time.monotonic() + link.timeout
        while True:
            self._wait(peer, tag, deadline)
            if (arrival := link.take(peer, tag)) is not None:
                return arrival
            if time.monotonic() > deadline:
                raise silence(self.party, peer, tag, link.timeout)

    def _wait(self, peer: int, tag: Tag, deadline: float) -> None:
        """Wait a moment for this message, here if there is nothing else to do."""
        link = self.inner
        if self._fiber.may_wait and not link.told:
            if self._ahead is None or not self._ahead.busy:
                link.wait(deadline - time.monotonic())
                return
            link.wait(0.0)
            if not link.told and not link.is_due(peer, tag.session):
                plan_ahead(self._ahead, link.waits_on(), WAIT_SECONDS)
            return
        link.read()
        if not link.is_due(peer, tag.session):
            self._fiber.wait(lambda: link.is_due(peer, tag.session) or time.monotonic() > deadline)
