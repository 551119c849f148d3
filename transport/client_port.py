"""A server's side towards its clients: requests come in; progress, results and errors go out."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import zmq
from zmq.utils.monitor import recv_monitor_message

from onnxpuma.errors import InputError, OnnxpumaError, TransportError
from onnxpuma.transport import sockets, wire, wire_pb2
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.gate import Bounds
from onnxpuma.transport.link import Buffer, as_bytes
from onnxpuma.transport.zap import CLIENTS, Doorkeeper

Reply: TypeAlias = (
    wire_pb2.Accepted | wire_pb2.Queued | wire_pb2.Progress | wire_pb2.Result | wire_pb2.Failure
)

ID_BYTES = 16
UNSENT_MESSAGES = 100
# Frames beyond those announced: reading each one costs time, and nobody sends so many by mistake.
MOST_EXTRA = 1000
AT_ONCE = 100  # requests that may wait here, read but not handed out
FIRST_MESSAGE_SECONDS = 10.0
UNREAD_BYTES = 1 << 27

_log = logging.getLogger("onnxpuma.transport")


@dataclass(eq=False, slots=True)
class Request:
    """A request as one server received it."""

    client: str  # name of the key that sent it
    body: wire_pb2.Request  # its public part
    public: list[memoryview]  # the buffers that all servers get
    private: list[memoryview] = field(repr=False)  # the buffers for this server alone
    route: bytes  # the client's routing id, to which answers go
    connection: tuple[int, int]
    gone: bool = False  # the client left, or no longer wants an answer

    @property
    def id(self) -> bytes:
        return self.body.id

    def digest(self) -> bytes:
        """SHA-256 of the public part, 32 bytes; the servers compare it, as all must have the same request."""
        total = hashlib.sha256(self.body.SerializeToString(deterministic=True))
        for buffer in self.public:
            total.update(len(buffer).to_bytes(8, "little"))
            total.update(buffer)
        return total.digest()


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
    ) -> None:
        self.status = status
        self._began = time.monotonic()
        self._linger = int(linger * 1000)
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
        if isinstance(body, wire_pb2.Result | wire_pb2.Failure):
            self._open.pop(request.id, None)
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
            request = Request(client, body, public, private, route, connection)
            self._open[body.id] = request
            self._waiting.append(request)

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
