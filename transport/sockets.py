"""Settings that all sockets share: limits, heartbeats, and readable errors for bad addresses."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import zmq

from onnxpuma.errors import ConfigError
from onnxpuma.transport import wire
from onnxpuma.transport.curve import KeyPair

RECONNECT_MILLISECONDS = 100
# The limit of one attempt to connect: where a network drops packets, the kernel would try for minutes.
CONNECT_MILLISECONDS = 2000
HANDSHAKE_MILLISECONDS = 5000
NOW = int(zmq.NOBLOCK)
MORE = NOW | int(zmq.SNDMORE)
READABLE = int(zmq.POLLIN)
# The kernel doubles the size that it is asked for, and needs about a third for itself: some 5 MB can be on
# their way, which fills 400 Mbit/s at a ping of 100 ms. A heartbeat queues behind them: on a link below
# 6 Mbit/s it would come later than the default heartbeat allows.
SEND_BUFFER = 1 << 22
KERNEL = Path("/proc/sys/net")


def prepare(socket: zmq.Socket[bytes], heartbeat: float) -> None:
    """Set limits and heartbeats: a connection whose other end is silent for `heartbeat` seconds is closed."""
    milliseconds = max(4, int(heartbeat * 1000))
    socket.linger = 0
    # Queues are not limited. A full queue would also stop ZeroMQ from reading heartbeats, so that a busy
    # party would pass for dead; and libzmq (4.3.5) aborts the process at the next heartbeat when a connection
    # ends while its reading is stopped. Lockstep bounds what parties can queue, a gate what clients can.
    socket.sndhwm = socket.rcvhwm = 0
    socket.setsockopt(zmq.MAXMSGSIZE, max(wire.CHUNK, wire.MAX_HEADER) + 1024)
    socket.setsockopt(zmq.HEARTBEAT_IVL, milliseconds // 4)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, milliseconds * 3 // 4)
    socket.setsockopt(zmq.HANDSHAKE_IVL, min(milliseconds, HANDSHAKE_MILLISECONDS))
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MILLISECONDS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)


def widen(socket: zmq.Socket[bytes]) -> None:
    """Ask for a send buffer that fills a long link, if the kernel grants more than it would choose itself.

    Its own choice grows with the link up to the last number of tcp_wmem, and ends where a size is asked for.
    Unless configured, recent kernels grant 4 MB (6.18 does) and older ones 208 kB.
    """
    try:
        allowed = int((KERNEL / "core" / "wmem_max").read_text())
        chosen = int((KERNEL / "ipv4" / "tcp_wmem").read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return
    if 2 * min(allowed, SEND_BUFFER) > chosen:
        socket.setsockopt(zmq.SNDBUF, SEND_BUFFER)


def bind(socket: zmq.Socket[bytes], address: str) -> None:
    """Listen at `address`; a ConfigError names it when that is not possible."""
    socket.ipv6 = "[" in address
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{address} is in use by another program",
                "stop that program (another server of this cluster?), or choose another port in cluster.toml",
            ) from None
        raise ConfigError(
            f"cannot listen at {address}: {error.strerror}",
            "use a port above 1023, and `*` or an address of this machine",
        ) from None


def wait(listening: Sequence[zmq.Socket[bytes]], seconds: float) -> list[zmq.Socket[bytes]]:
    """Sleep until one of these sockets can be read, `seconds` at most; return those that can."""
    polled = [(socket, READABLE) for socket in listening]
    ready = zmq.zmq_poll(polled, max(0, int(seconds * 1000)) + 1)
    return cast("list[zmq.Socket[bytes]]", [socket for socket, _ in ready])


def readable(listening: Sequence[zmq.Socket[bytes]]) -> bool:
    """Whether one of these sockets can be read now: for one who is busy and asks often."""
    return any(int(socket.getsockopt(zmq.EVENTS)) & READABLE for socket in listening)


def port_of(socket: zmq.Socket[bytes]) -> int:
    """The port at which a socket actually listens."""
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return int(endpoint.rstrip("\0").rpartition(":")[2])


def connect(socket: zmq.Socket[bytes], address: str, keys: KeyPair, server_key: str) -> None:
    """Begin to connect as the owner of `keys` to the owner of `server_key`; ConfigError for a bad address."""
    socket.curve_publickey = keys.public.encode()
    socket.curve_secretkey = keys.secret.encode()
    socket.curve_serverkey = server_key.encode()
    socket.ipv6 = "[" in address
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise ConfigError(
            f"{address} is not an address to connect to: {error.strerror}", 'write "tcp://host:port"'
        ) from None


def received(socket: zmq.Socket[bytes], flags: int = NOW) -> list[zmq.Frame]:
    """The frames of the next message that has arrived; none if there is none.

    flags: 0 to wait for it as long as the socket's RCVTIMEO allows.
    """
    try:
        frames = [socket.recv(flags, False)]
    except zmq.Again:
        return []
    while frames[-1].more:
        frames.append(socket.recv(NOW, False))
    return frames


def push(socket: zmq.Socket[bytes], frames: Sequence[bytes | memoryview]) -> bool:
    """Queue a message, without a copy and without waiting; False when the socket has no connection."""
    for _ in range(2):
        try:
            for frame in frames[:-1]:
                socket.send(frame, MORE, False, False)
            socket.send(frames[-1], NOW, len(frames) == 1, False)
            return True
        except zmq.Again:
            # libzmq does not process connection events at every send; querying the events makes it do so.
            if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
                return False
    return False
