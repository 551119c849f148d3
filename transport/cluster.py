"""The client's side: one request to all three servers; three results back, or one clear error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TypeAlias

import zmq
from google.protobuf.message import Message

from onnxpuma.errors import InputError, OnnxpumaError, PeerLostError, RequestTimeoutError, StoppingError
from onnxpuma.transport import sockets, wire, wire_pb2
from onnxpuma.transport.again import Again, Try
from onnxpuma.transport.client_line import ClientLine, nobody_answers
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.descriptors import require_descriptors
from onnxpuma.transport.each import Answered, each, read_one
from onnxpuma.transport.failure import error_of, most_telling
from onnxpuma.transport.line import Peer
from onnxpuma.transport.link import PARTIES, Buffer, as_bytes
from onnxpuma.transport.request import ID_BYTES

News: TypeAlias = wire_pb2.Accepted | wire_pb2.Queued | wire_pb2.Progress

# After the first report of a failure the other servers have this long to send theirs.
REPORT_SECONDS = 0.5
# While one server is missing, the others have this long to report what they know about it.
HEARSAY_SECONDS = 1.0
HALT_SECONDS = 0.1  # in which a wait that can be ended notices it
DESCRIPTORS = 40  # files and sockets that connections to three servers need


@dataclass(frozen=True, slots=True)
class Answer:
    """One server's result: its description, its shares as raw buffers, and the id of the request."""

    result: wire_pb2.Result
    buffers: list[memoryview]
    request: bytes = b""


class Cluster:
    """A client's connections to the three servers. It begins to connect at once, in the background.

    Raises ConfigError for a malformed address, or when the limit of open files is too low.
    """

    def __init__(
        self,
        servers: Sequence[Peer],  # in the order of the parties
        keys: KeyPair,
        *,
        connect_timeout: float = 10.0,  # seconds to wait until all three are connected
        timeout: float = 600.0,  # seconds to wait for results
        heartbeat: float = 10.0,  # seconds without a sign of life after which a server counts as lost
        renew: float = 3600.0,  # age in seconds beyond which a connection is replaced before its next use
        drain: float = 30.0,  # seconds that a server which is told to leave may take for what runs
        halt: Event | None = None,  # another thread sets it to end a wait, with a CancelledError
    ) -> None:
        require_descriptors(DESCRIPTORS)
        self.patience = connect_timeout + drain
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self._keys, self._halt = keys, halt
        self._heartbeat, self._renew = heartbeat, renew
        self._context = zmq.Context()
        self._servers: list[ClientLine] = []
        self._closed = False
        self.latest = b""  # the id under which a request was last sent
        # Called where nothing has arrived; it may work until its argument says that something has.
        self.meanwhile: Callable[[Callable[[], bool]], None] = lambda until: None
        try:
            for number, place in enumerate(servers):
                self._servers.append(self._dial(number, place))
        except BaseException:
            self.close()
            raise

    def _dial(self, number: int, place: Peer) -> ClientLine:
        return ClientLine(self._context, number, place, self._keys, self._heartbeat)

    def _refresh(self) -> None:
        """Between two requests: replace connections that are old, or that were refused as too many."""
        for place, server in enumerate(self._servers):
            server.out.update()
            aged = server.out.connected and time.monotonic() > server.out.made + self._renew
            if aged or server.watch.crowded:
                server.out.close()
                self._servers[place] = self._dial(server.number, server.place)

    def connect(self, timeout: float | None = None) -> None:
        """Wait until all servers are connected.

        Raises AuthenticationError when a server refuses our key or has a key other than expected, BusyError
        when it has too many connections of our key, PeerLostError naming the servers that do not answer
        within `timeout` seconds.
        """
        self._refresh()
        seconds = self.connect_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        while missing := [server for server in self._servers if not server.connected()]:
            for server in missing:
                server.check_trust()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise nobody_answers(missing, seconds, self._hearsay())
            self._wait(remaining)

    def request(
        self,
        body: wire_pb2.Request,
        public: Sequence[Buffer],
        private: Sequence[Sequence[Buffer]],
        *,
        timeout: float | None = None,
        news: Callable[[int, News], None] | None = None,
    ) -> list[Answer]:
        """Send a request and wait for the three results, in the order of the parties.

        body: the public part; a copy of it gets a fresh id and the number of public buffers.
        public: buffers that all servers get. private: for each server the buffers that it alone gets. No
        buffer is copied. news: called with a server's number and its report of progress.

        A server that is restarted costs no request that it had not begun: that is sent again, with a fresh id
        and the same shares, as soon as the server is back within the time that `connect` has.

        Raises the error that a server reports, in its own class; PeerLostError when a server dies;
        RequestTimeoutError after `timeout` seconds; and the errors of `connect`. On any of these the servers
        are told to drop the request.
        """
        if len(private) != len(self._servers):
            raise InputError(
                f"private buffers for {len(private)} servers were given", f"pass buffers for all {PARTIES}"
            )
        begin = time.monotonic()
        seconds = self.timeout if timeout is None else timeout
        head = wire_pb2.Request()
        head.CopyFrom(body)
        head.public_buffers = len(public)
        again = Again(min(seconds, self.patience))
        while True:
            self.connect()
            state = Try()
            try:
                return self._ask(head, public, private, seconds, begin + seconds, news, state)
            except (StoppingError, PeerLostError) as error:
                if not again.allows(error, state):
                    raise
            again.pause()

    def _ask(
        self,
        head: wire_pb2.Request,
        public: Sequence[Buffer],
        private: Sequence[Sequence[Buffer]],
        seconds: float,
        deadline: float,
        news: Callable[[int, News], None] | None,
        state: Try,
    ) -> list[Answer]:
        """Send a request once, with a fresh id, and wait for the results."""
        self.latest = head.id = os.urandom(ID_BYTES)
        losses = [server.watch.losses for server in self._servers]
        shared = [as_bytes(b) for b in public]
        try:
            for server, own in zip(self._servers, private, strict=True):
                buffers = shared + [as_bytes(b) for b in own]
                header = wire.encode_client(head, [len(b) for b in buffers])
                if not self._push(server, [header, *wire.split(buffers)]):
                    state.broken = True
                    raise server.lost()
            return self._results(head.id, losses, seconds, deadline, news, state)
        except BaseException:
            for server in self._servers:
                self._push(server, [wire.encode_client(wire_pb2.Cancel(request=head.id), [])])
            raise

    def status(self, timeout: float | None = None) -> list[wire_pb2.Status | OnnxpumaError]:
        """Each server's status, or the reason why it has none to give; takes `timeout` seconds at most."""
        tag = os.urandom(ID_BYTES)
        answers = self._each(wire_pb2.StatusQuery(tag=tag), tag, timeout)
        return [a if isinstance(a, OnnxpumaError) else a[0].status for a in answers]

    def aside(
        self, body: wire_pb2.Request, timeout: float | None = None
    ) -> list[list[memoryview] | OnnxpumaError]:
        """What each server answers to a request for no computation, or the reason why it gives no answer;
        takes `timeout` seconds at most."""
        asked = wire_pb2.Request()
        asked.CopyFrom(body)
        asked.id = os.urandom(ID_BYTES)
        answers = self._each(asked, asked.id, timeout)
        return [a if isinstance(a, OnnxpumaError) else a[1] for a in answers]

    def close(self) -> None:
        """Disconnect; the servers drop a request that is still running."""
        if self._closed:
            return
        self._closed = True
        for server in self._servers:
            server.out.close()
        self._context.term()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- within ---------------------------------------------------------------------------------------

    def _results(
        self,
        request: bytes,
        losses: list[int],
        seconds: float,
        deadline: float,
        news: Callable[[int, News], None] | None,
        state: Try,
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        reports: dict[int, OnnxpumaError] = {}
        while len(answers) < len(self._servers):
            for server, before in zip(self._servers, losses, strict=True):
                while server.number not in reports and (message := read_one(server)) is not None:
                    head, buffers = message
                    kind = head.WhichOneof("body")
                    if kind == "failure" and head.request in (request, b""):
                        reports[server.number] = error_of(head.failure, server.number)
                    elif head.request != request:
                        continue
                    elif kind == "result":
                        answers[server.number] = Answer(head.result, buffers, head.request)
                    else:
                        state.begun |= kind == "accepted"
                        if news is not None:
                            news(server.number, getattr(head, str(kind)))
                server.watch.update()
                if server.watch.losses > before and server.number not in (*answers, *reports):
                    state.broken = True
                    reports[server.number] = server.lost()
            now = time.monotonic()
            if len(reports) == len(self._servers) or (reports and now > deadline):
                raise most_telling(list(reports.values()))
            if reports:
                deadline = min(deadline, now + REPORT_SECONDS)
            elif now > deadline:
                silent = ", ".join(str(s.number) for s in self._servers if s.number not in answers)
                raise RequestTimeoutError(
                    f"no result from server {silent} within {seconds:g} s",
                    "the model is large or the servers are busy: allow more time, or query their status",
                )
            if len(answers) < len(self._servers):
                self.meanwhile(partial(self._stirs, deadline))
                self._wait(max(0.0, deadline - time.monotonic()))
        return [answers[server.number] for server in self._servers]

    def _each(self, body: Message, tag: bytes, timeout: float | None) -> list[Answered | OnnxpumaError]:
        self._refresh()
        seconds = self.connect_timeout if timeout is None else timeout
        return each(self._servers, body, tag, seconds, self._wait)

    def _wait(self, seconds: float) -> None:
        """Sleep until something happens, `seconds` at most."""
        if self._halt is not None:
            if self._halt.is_set():
                raise CancelledError
            seconds = min(seconds, HALT_SECONDS)
        if any(server.out.unsettled for server in self._servers):
            seconds = min(seconds, 0.1)
        sockets.wait(self._listens_to(), seconds)

    def _stirs(self, deadline: float) -> bool:
        """Whether there is no time left for anything else than to listen."""
        halted = self._halt is not None and self._halt.is_set()
        return halted or time.monotonic() > deadline or sockets.readable(self._listens_to())

    def _listens_to(self) -> list[zmq.Socket[bytes]]:
        return [s for line in self._servers for s in (line.out.socket, line.watch.monitor)]

    def _hearsay(self) -> str:
        """What the servers that are connected report about those that are not."""
        if not any(server.connected() for server in self._servers):
            return ""
        told = enumerate(self.status(HEARSAY_SECONDS))
        return "".join(
            f"; server {number} says: {status.detail}"
            for number, status in told
            if isinstance(status, wire_pb2.Status) and status.detail
        )

    def _push(self, server: ClientLine, frames: list[bytes | memoryview]) -> bool:
        return server.push(frames)
