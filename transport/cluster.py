"""The side of a client: one request to all three servers, three results back, or one clear error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import zmq

from onnxpuma.errors import (
    AuthenticationError,
    InputError,
    OnnxpumaError,
    PeerLostError,
    RequestTimeoutError,
    TransportError,
)
from onnxpuma.transport import sockets, wire, wire_pb2
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.descriptors import require_descriptors
from onnxpuma.transport.failure import error_of, most_telling
from onnxpuma.transport.line import Peer
from onnxpuma.transport.link import PARTIES, Buffer, as_bytes
from onnxpuma.transport.watch import Watch

News: TypeAlias = wire_pb2.Accepted | wire_pb2.Queued | wire_pb2.Progress

# After the first report of a failure the other servers get this long to give theirs.
REPORT_SECONDS = 0.5
DESCRIPTORS = 40  # open files and sockets of the connections to three servers


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one server: its description, and its shares as raw buffers."""

    result: wire_pb2.Result
    buffers: list[memoryview]


class _Server:
    def __init__(self, number: int, place: Peer, socket: zmq.Socket[bytes]) -> None:
        self.number = number
        self.place = place
        self.socket = socket
        self.watch = Watch(socket)


class Cluster:
    """A client's connections to the three servers, given in the order of the parties.

    connect_timeout: seconds to wait for all three to be there. timeout: seconds to wait for results.
    heartbeat: seconds after which a server that no longer answers is given up. Connecting begins in the
    background at once. Raises ConfigError when an address is none, or the limit of open files too low.
    """

    def __init__(
        self,
        servers: Sequence[Peer],
        keys: KeyPair,
        *,
        connect_timeout: float = 10.0,
        timeout: float = 600.0,
        heartbeat: float = 10.0,
    ) -> None:
        require_descriptors(DESCRIPTORS)
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self._keys = keys
        self._context = zmq.Context()
        self._servers: list[_Server] = []
        self._poller = zmq.Poller()
        self._closed = False
        try:
            for number, place in enumerate(servers):
                socket = self._context.socket(zmq.DEALER)
                sockets.prepare(socket, heartbeat)
                socket.linger = 200
                socket.immediate = True
                server = _Server(number, place, socket)
                self._servers.append(server)
                self._poller.register(socket, zmq.POLLIN)
                self._poller.register(server.watch.monitor, zmq.POLLIN)
                sockets.connect(socket, place.address, keys, place.public_key)
        except BaseException:
            self.close()
            raise

    def connect(self, timeout: float | None = None) -> None:
        """Wait until all servers are there.

        Raises AuthenticationError when one refuses our key or has another key than we expect, PeerLostError
        naming those that do not answer within `timeout` seconds.
        """
        seconds = self.connect_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        while missing := [server for server in self._servers if not self._connected(server)]:
            for server in missing:
                self._check_trust(server)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                names = ", ".join(f"server {s.number} ({s.place.address})" for s in missing)
                raise PeerLostError(
                    f"no answer from {names} in {seconds:g} s",
                    "see that it runs, that its address is right, and that no firewall is between",
                )
            self._poller.poll(int(remaining * 1000) + 1)

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

        body: public part; a fresh id and the number of public buffers are filled into a copy of it.
        public: buffers that all servers get. private: for each server the buffers that it alone gets; none
        is copied. news: called with the number of a server and what it tells of its progress.

        Raises the error a server reports, in its own class; PeerLostError when a server dies,
        RequestTimeoutError after `timeout` seconds, and what `connect` raises. The servers are then told to
        drop the request.
        """
        if len(private) != len(self._servers):
            raise InputError(
                f"private buffers for {len(private)} servers were given", f"give them for all {PARTIES}"
            )
        seconds = self.timeout if timeout is None else timeout
        head = wire_pb2.Request()
        head.CopyFrom(body)
        head.id = os.urandom(16)
        head.public_buffers = len(public)
        self.connect()
        losses = [server.watch.losses for server in self._servers]
        shared = [as_bytes(b) for b in public]
        try:
            for server, own in zip(self._servers, private, strict=True):
                buffers = shared + [as_bytes(b) for b in own]
                header = wire.encode_client(head, [len(b) for b in buffers])
                if not self._push(server, [header, *wire.split(buffers)]):
                    raise self._lost(server)
            return self._results(head.id, losses, seconds, news)
        except BaseException:
            for server in self._servers:
                self._push(server, [wire.encode_client(wire_pb2.Cancel(request=head.id), [])])
            raise

    def status(self, timeout: float | None = None) -> list[wire_pb2.Status | OnnxpumaError]:
        """What each server says of itself, or why it says nothing, after `timeout` seconds at most."""
        seconds = self.connect_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        tag = os.urandom(16)
        answers: dict[int, wire_pb2.Status | OnnxpumaError] = {}
        asked: set[int] = set()
        while len(answers) < len(self._servers) and (remaining := deadline - time.monotonic()) > 0:
            for server in self._servers:
                if server.number not in asked and self._connected(server):
                    asked.add(server.number)
                    self._push(server, [wire.encode_client(wire_pb2.StatusQuery(tag=tag), [])])
                try:
                    self._check_trust(server)
                    while (message := self._read_one(server)) is not None:
                        if message[0].request == tag:
                            answers[server.number] = message[0].status
                except TransportError as error:
                    answers[server.number] = error
            if len(answers) < len(self._servers):
                self._poller.poll(min(100, int(remaining * 1000) + 1))
        return [answers.get(server.number, self._silent(server, seconds)) for server in self._servers]

    def close(self) -> None:
        """Leave; a request that is still running is dropped by the servers."""
        if self._closed:
            return
        self._closed = True
        for server in self._servers:
            server.watch.close()
            server.socket.close()
        self._context.term()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- within ---------------------------------------------------------------------------------------

    def _results(
        self, request: bytes, losses: list[int], seconds: float, news: Callable[[int, News], None] | None
    ) -> list[Answer]:
        deadline = time.monotonic() + seconds
        answers: dict[int, Answer] = {}
        reports: dict[int, OnnxpumaError] = {}
        while len(answers) < len(self._servers):
            for server, before in zip(self._servers, losses, strict=True):
                while server.number not in reports and (message := self._read_one(server)) is not None:
                    head, buffers = message
                    kind = head.WhichOneof("body")
                    if kind == "failure" and head.request in (request, b""):
                        reports[server.number] = error_of(head.failure, server.number)
                    elif head.request != request:
                        continue
                    elif kind == "result":
                        answers[server.number] = Answer(head.result, buffers)
                    elif news is not None:
                        news(server.number, getattr(head, str(kind)))
                server.watch.update()
                if server.watch.losses > before and server.number not in (*answers, *reports):
                    reports[server.number] = self._lost(server)
            now = time.monotonic()
            if len(reports) == len(self._servers) or (reports and now > deadline):
                raise most_telling(list(reports.values()))
            if reports:
                deadline = min(deadline, now + REPORT_SECONDS)
            elif now > deadline:
                silent = ", ".join(str(s.number) for s in self._servers if s.number not in answers)
                raise RequestTimeoutError(
                    f"no result from server {silent} in {seconds:g} s",
                    "the model is large or the servers are busy: allow more time, or ask for their status",
                )
            if len(answers) < len(self._servers):
                self._poller.poll(max(0, int((deadline - now) * 1000)) + 1)
        return [answers[server.number] for server in self._servers]

    def _connected(self, server: _Server) -> bool:
        server.watch.update()
        return server.watch.connected

    def _push(self, server: _Server, frames: list[bytes | memoryview]) -> bool:
        if not self._connected(server):
            return False
        return sockets.push(server.socket, frames)

    def _read_one(self, server: _Server) -> tuple[wire_pb2.ServerMessage, list[memoryview]] | None:
        try:
            frames = [f.buffer for f in server.socket.recv_multipart(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return None
        message = wire.decode_server(frames[0])
        return message, wire.join(message.sizes, frames[1:])

    def _check_trust(self, server: _Server) -> None:
        name = f"server {server.number} ({server.place.address})"
        if server.watch.refused:
            raise AuthenticationError(
                f"{name} refuses this client's public key {self._keys.public}",
                "its operator must put that key on the list of clients in cluster.toml and start it again",
            )
        if server.watch.strange:
            raise AuthenticationError(
                f"{name} is not the owner of the public key that is expected there",
                f"compare its key with {server.place.public_key} in cluster.toml, and see that the port is"
                " the one for clients",
            )

    def _lost(self, server: _Server) -> PeerLostError:
        return PeerLostError(
            f"server {server.number} ({server.place.address}) is gone",
            "start it again, then repeat the request",
        )

    def _silent(self, server: _Server, seconds: float) -> PeerLostError:
        return PeerLostError(
            f"no answer from server {server.number} ({server.place.address}) in {seconds:g} s",
            "see that it runs, that its address is right, and that no firewall is between",
        )
