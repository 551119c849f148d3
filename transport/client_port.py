"""A server's side towards its clients: requests come in; progress, results and errors go out."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import zmq
from zmq.utils.monitor import recv_monitor_message

from onnxpuma.errors import InputError, OnnxpumaError, TransportError
from onnxpuma.transport import sockets, wire, wire_pb2
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.gate import Bounds
from onnxpuma.transport.link import Buffer, as_bytes
from onnxpuma.transport.request import ID_BYTES, Request
from onnxpuma.transport.zap import CLIENTS, Doorkeeper

Reply: TypeAlias = (
    wire_pb2.Accepted | wire_pb2.Queued | wire_pb2.Progress | wire_pb2.Result | wire_pb2.Failure
)

UNSENT_MESSAGES = 100
# Frames beyond those announced: reading each one costs time, and nobody sends so many by mistake.
MOST_EXTRA = 1000
AT_ONCE = 100  # requests that may wait here, read but not handed out
FIRST_MESSAGE_SECONDS = 10.0
UNREAD_BYTES = 1 << 27

_log = logging.getLogger("onnxpuma.transport")


class Observer(Protocol):
    """Follows every request from its arrival to its end: its Result, its Failure, or the client's leaving."""

    def arrived(self, request: Request) -> None: ...

    def replied(self, request: Request, body: Reply) -> None: ...

    def left(self, request: Request) -> None: ...


class ClientPort:
    """Listens for clients. It answers status queries inside `poll`: a busy server calls `poll(0)` regularly.

    Raises ConfigError when `listen` is in use or not an address of this machine.
    """

    def __init__(
        self,
        keys: KeyPair,
        listen: str,  # "tcp://*:7100"
        clients: Mapping[str, str],  # public key: name; no other key gets in
        status: wire_pb2.Status,  # the answer to status queries; the caller keeps it up to date
        *,
        heartbeat: float = 10.0,
        linger: float = 2.0,
        bounds: Bounds | None = None,  # a client that does not read its answers is cut off in any case
        observer: Observer | None = None,
    ) -> None:
        self.status = status
        self._began = time.monotonic()
        self._linger = int(linger * 1000)
        self._clients = dict(clients)
        self._observer = observer
        self._open: dict[bytes, Request] = {}
        self._waiting: deque[Request] = deque()
        # The kernel reuses the numbers of descriptors, so a connection is a number and a count of its uses.
        self._uses: dict[int, int] = {}
        self._closed = False
        self._door = Doorkeeper()
        self._door.allow(CLIENTS, clients)
        self._router = self._door.context.socket(zmq.ROUTER)
        self._monitor: zmq.Socket[bytes] | None = None
        try:
            sockets.prepare(self._router, heartbeat)
            self._router.sndhwm = UNSENT_MESSAGES
            self._router.router_mandatory = True
            self._door.guard(self._router, CLIENTS, keys.secret)
            self._monitor = self._router.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
            sockets.bind(self._router, listen)
            allowed = bounds or Bounds(unread=UNREAD_BYTES, silent=FIRST_MESSAGE_SECONDS)
            self._gate = self._door.watch(CLIENTS, self._router, allowed, self._descriptors_in_use)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        for socket in self.waits_on():
            self._poller.register(socket, zmq.POLLIN)

    def poll(self, timeout: float = 0.0) -> Request | None:
        """The next request; None when none arrives within `timeout` seconds.

        Also answers status queries, and sets `gone` on the requests of clients that have left.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._look()
            for _ in range(AT_ONCE - len(self._waiting)):
                if not self._read_one():
                    break
            while self._waiting:
                request = self._waiting.popleft()
                if not request.gone:
                    return request
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self._poller.poll(int(remaining * 1000) + 1)

    def reply(self, request: Request, body: Reply, buffers: Sequence[Buffer] = ()) -> bool:
        """Send `body` and its buffers (not copied) to the client; False when it has left.

        A Result or a Failure closes the request; nothing more can be sent for it.
        """
        final = isinstance(body, wire_pb2.Result | wire_pb2.Failure)
        known = self._open.pop(request.id, None) if final else None
        if self._observer is not None and (known is not None or not request.gone):
            self._observer.replied(request, body)
        if request.gone:
            return False
        descriptor, uses = request.connection
        current = descriptor if self._uses.get(descriptor, 0) == uses else None
        if not self._send(request.route, request.id, body, [as_bytes(b) for b in buffers], current):
            request.gone = True
        return not request.gone

    def fail(self, request: Request, error: BaseException) -> bool:
        """Tell the client that its request failed, and close it; False when it has left."""
        return self.reply(request, failure_of(error))

    def admit(self, clients: Mapping[str, str], bounds: Bounds) -> None:
        """From now on serve exactly these clients within these bounds, and cut off those that left the list.
        clients: as in the constructor."""
        same = {name for key, name in clients.items() if self._clients.get(key) == name}
        self._clients = dict(clients)
        self._door.allow(CLIENTS, clients)
        self._gate.change(bounds, same)

    @property
    def connections(self) -> int:
        """Connections of clients that have spoken."""
        return self._gate.count

    def waits_on(self) -> list[zmq.Socket[bytes]]:
        """The sockets to poll for reading in order to wait for this port along with other things."""
        return [self._router] + ([self._monitor] if self._monitor is not None else [])

    def close(self) -> None:
        """Send what is unsent (for the linger time at most) and release everything."""
        if self._closed:
            return
        self._closed = True
        if self._monitor is not None:
            self._router.disable_monitor()
            self._monitor.close()
        self._router.close(self._linger)
        self._door.close()

    def __enter__(self) -> ClientPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- within ---------------------------------------------------------------------------------------

    def _descriptors_in_use(self) -> set[int]:
        return {request.connection[0] for request in list(self._open.values())}

    def _send(
        self,
        route: bytes,
        request: bytes,
        body: Reply | wire_pb2.Status,
        buffers: list[memoryview],
        descriptor: int | None,
    ) -> bool:
        """Queue an answer; False when the client has left. A client that reads no answers is cut off."""
        frame = wire.encode_server(request, body, [len(b) for b in buffers])
        frames: list[bytes | memoryview] = [route, frame, *wire.split(buffers)]
        try:
            self._router.send_multipart(frames, zmq.NOBLOCK, copy=False, track=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            if error.errno == zmq.EAGAIN and descriptor is not None:
                self._gate.cut(descriptor, "it does not read its answers")
            return False
        return True

    def _read_one(self) -> bool:
        """Read and handle the next message; False when there is none.

        It is read frame by frame, and only as many frames as its header announces are kept.
        """
        try:
            route = self._router.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        first = self._router.recv(zmq.NOBLOCK, copy=False)
        name, descriptor = str(first.get("User-Id")), int(first.get(zmq.SRCFD))
        # Events first: the descriptor may have passed to a new connection, which changes its count of uses.
        self._look()
        connection = (descriptor, self._uses.get(descriptor, 0))
        error: OnnxpumaError | None = None
        message: wire_pb2.ClientMessage | None = None
        frames: list[memoryview] = []
        extra, size = 0, wire.on_the_wire(len(first.buffer))
        if len(first.buffer) or first.more:  # an empty message is a greeting
            try:
                message = wire.decode_client(first.buffer)
                due = wire.frames_of(message.sizes)
            except OnnxpumaError as damage:
                error, due = damage, 0
            frame = first
            while frame.more:
                frame = self._router.recv(zmq.NOBLOCK, copy=False)
                size += wire.on_the_wire(len(frame.buffer))
                if len(frames) <= due:
                    frames.append(frame.buffer)
                else:
                    extra += 1
        self._gate.heard(descriptor, name, size)
        if extra > MOST_EXTRA:
            self._gate.bar(name, f"a message had {extra} more frames than it announced")
            return True
        if message is not None and error is None:
            try:
                self._sort(route, name, connection, message, frames)
            except OnnxpumaError as damage:
                error = damage
        if error is not None:
            _log.warning("client %s: %s", name, error.message)
            self._send(route, b"", failure_of(error), [], descriptor)
        return True

    def _sort(
        self,
        route: bytes,
        client: str,
        connection: tuple[int, int],
        message: wire_pb2.ClientMessage,
        frames: list[memoryview],
    ) -> None:
        buffers = wire.join(message.sizes, frames)
        kind = message.WhichOneof("body")
        if kind == "status":
            self.status.uptime_seconds = time.monotonic() - self._began
            self._send(route, message.status.tag, self.status, [], connection[0])
        elif kind == "cancel":
            request = self._open.get(message.cancel.request)
            if request is not None and request.route == route:
                self._leave(request)
        elif kind == "request":
            body = message.request
            if len(body.id) != ID_BYTES or body.public_buffers > len(buffers):
                raise TransportError(
                    f"a request has an id of {len(body.id)} bytes and declares {body.public_buffers} of its"
                    f" {len(buffers)} buffers public",
                    "send requests with this package's Cluster",
                )
            if body.id in self._open:
                raise InputError("this request id is in use", "draw 16 new random bytes for every request")
            public, private = buffers[: body.public_buffers], buffers[body.public_buffers :]
            key = next((key for key, name in self._clients.items() if name == client), "")
            request = Request(client, body, public, private, route, connection, key)
            self._open[body.id] = request
            self._waiting.append(request)
            if self._observer is not None:
                self._observer.arrived(request)

    def _look(self) -> None:
        """Record which clients have left."""
        monitor = self._monitor
        while monitor is not None and int(monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = recv_monitor_message(monitor)
            descriptor = event["value"]
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._uses[descriptor] = self._uses.get(descriptor, 0) + 1
            else:
                connection = (descriptor, self._uses.get(descriptor, 0))
                for request in [r for r in self._open.values() if r.connection == connection]:
                    self._leave(request)

    def _leave(self, request: Request) -> None:
        _log.info("client %s left before its request %s was done", request.client, request.id.hex()[:8])
        request.gone = True
        self._open.pop(request.id, None)
        if self._observer is not None:
            self._observer.left(request)
