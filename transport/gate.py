"""How much of a listening port strangers and clients may take: connections, and bytes not yet read.

ZeroMQ delivers a message only when it is complete, and buffers it in memory until then, however long it is.
The kernel knows how many bytes a connection has brought. A thread asks it several times a second, and shuts
down connections that are too many or bring too much; ZeroMQ then discards what it had buffered for them.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import stat
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread

LOOK_SECONDS = 0.2
ADDRESS_FACTOR = 4  # clients may share an address: behind one router, or on one machine
TOTAL_FACTOR = 16
BARRED_SECONDS = 30.0
# Bytes of a connection that belong to no message: its handshake, and the fastest heartbeats, by the second.
GREETING_BYTES = 4096
HEARTBEAT_BYTES = 1000
_BYTES_RECEIVED = 128  # offset in the kernel's struct tcp_info
_MOST_DESCRIPTORS = 1 << 16

_log = logging.getLogger("onnxpuma.transport")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits that a Gate enforces. In `unread`, `silent` and `age`, 0 means no limit."""

    # Connections of one key at a time: ADDRESS_FACTOR times as many per address, TOTAL_FACTOR times in all.
    connections: int = 100
    # Unread bytes of one connection, its unfinished message included: ADDRESS_FACTOR times as many in all.
    unread: int = 0
    # Seconds within which a connection must bring its first message.
    silent: float = 0.0
    # Seconds after which an idle connection is closed, so that its client makes a new one with fresh keys.
    age: float = 0.0


@dataclass(slots=True)
class _Connection:
    descriptor: int
    address: str
    since: float
    name: str = ""
    taken: int = 0  # bytes that have been read from it
    used: float = 0.0
    cut: bool = False


class Gate:
    """Watches the connections accepted at `port` of this machine; close it after use."""

    def __init__(
        self,
        port: int,
        bounds: Bounds,
        # Descriptors of the connections at which a client waits: these are never too old.
        in_use: Callable[[], set[int]] = set,
    ) -> None:
        self._port, self._bounds, self._in_use = port, bounds, in_use
        self._lock = Lock()
        # ZeroMQ opens and closes the descriptors, and the kernel reuses their numbers. An inode tells sockets
        # apart: by it the connections, and the sockets that are none of this port's.
        self._connections: dict[int, _Connection] = {}
        self._foreign: set[int] = set()
        # By key name: when its connections that have not spoken were admitted, and until when it is barred.
        self._promised: dict[str, deque[float]] = {}
        self._barred: dict[str, float] = {}
        self._done = Event()
        self._thread = Thread(target=self._run, name="onnxpuma-gate", daemon=True)
        self._thread.start()

    def admits(self, name: str) -> bool:
        """Whether the owner of the key `name` may have one more connection; if so, it counts from now on."""
        now = time.monotonic()
        with self._lock:
            if now < self._barred.get(name, 0.0):
                return False
            promised = self._promised.setdefault(name, deque())
            while promised and now > promised[0] + self._bounds.silent + 2 * LOOK_SECONDS:
                promised.popleft()  # by now it has spoken or was cut
            held = sum(c.name == name for c in self._connections.values())
            if held + len(promised) >= self._bounds.connections:
                return False
            promised.append(now)
            return True

    def bar(self, name: str, why: str) -> None:
        """Shut down all connections of `name`, and admit no new one for BARRED_SECONDS."""
        with self._lock:
            self._barred[name] = time.monotonic() + BARRED_SECONDS
            for one in self._connections.values():
                if one.name == name and not one.cut:
                    self._cut(one, why)

    def change(self, bounds: Bounds, names: set[str]) -> None:
        """Enforce other bounds from now on, and shut down the connections of everybody not in `names`."""
        with self._lock:
            self._bounds = bounds
            for one in self._connections.values():
                if one.name and one.name not in names and not one.cut:
                    self._cut(one, "it is no longer on the list")

    @property
    def count(self) -> int:
        """Connections that have brought a message."""
        with self._lock:
            return sum(bool(one.name) and not one.cut for one in self._connections.values())

    def heard(self, descriptor: int, name: str, size: int | None = None) -> None:
        """Note that `size` bytes of `name` were read from this connection; None: all that had arrived."""
        with suppress(OSError):
            inode = os.fstat(descriptor).st_ino
            with self._lock:
                known = self._connections.get(inode) or self._enter(descriptor, inode)
                if known is None:
                    return
                if not known.name:
                    known.name = name
                    if promised := self._promised.get(name):
                        promised.popleft()
                known.used = time.monotonic()
                come = _received(descriptor)
                known.taken = come if size is None else min(come, known.taken + size)

    def cut(self, descriptor: int, why: str) -> None:
        """Shut down this connection, and log why."""
        with suppress(OSError):
            inode = os.fstat(descriptor).st_ino
            with self._lock:
                known = self._connections.get(inode) or self._enter(descriptor, inode)
                if known is not None:
                    self._cut(known, why)

    def close(self) -> None:
        """Stop watching."""
        self._done.set()
        self._thread.join()

    # ---- within ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            with self._lock:
                self._look()
                self._judge()

    def _look(self) -> None:
        """Record which connections have come and gone."""
        seen = set()
        for descriptor in _descriptors():
            try:
                status = os.fstat(descriptor)
            except OSError:
                continue
            if not stat.S_ISSOCK(status.st_mode):
                continue
            seen.add(status.st_ino)
            known = self._connections.get(status.st_ino)
            if known is not None:
                known.descriptor = descriptor
            elif status.st_ino not in self._foreign:
                self._enter(descriptor, status.st_ino)
        for gone in self._connections.keys() - seen:
            del self._connections[gone]
        self._foreign &= seen

    def _enter(self, descriptor: int, inode: int) -> _Connection | None:
        with _socket_of(descriptor) as one:
            address = None if one is None else _accepted_from(one, self._port)
        if address is None:
            self._foreign.add(inode)
            return None
        made = self._connections[inode] = _Connection(descriptor, address, time.monotonic())
        return made

    def _judge(self) -> None:
        """Shut down connections beyond a bound; of too many, the youngest that have not spoken."""
        now, bounds, factor = time.monotonic(), self._bounds, ADDRESS_FACTOR
        living = sorted((c for c in self._connections.values() if not c.cut), key=lambda c: c.since)
        most = min(bounds.connections * TOTAL_FACTOR, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        of_address: Counter[str] = Counter(c.address for c in living)
        total, waiting, in_use = len(living), {}, self._in_use()
        for one in reversed(living):
            if not one.name and (of_address[one.address] > bounds.connections * factor or total > most):
                of_address[one.address] -= 1
                total -= 1
                self._cut(one, "there are too many")
            elif bounds.silent and not one.name and now > one.since + bounds.silent:
                self._cut(one, f"it sent no message within {bounds.silent:g} s")
            elif one.descriptor in in_use:
                one.used = now
            elif bounds.age and one.name and now > max(one.since + bounds.age, one.used + bounds.age / 2):
                self._cut(one, "")
            if bounds.unread and not one.cut:
                waiting[id(one)] = (self._unread(one), one)
        whole = sum(unread for unread, _ in waiting.values())
        for unread, one in sorted(waiting.values(), key=lambda pair: -pair[0]):
            if unread > bounds.unread or whole > factor * bounds.unread:
                whole -= unread
                self._cut(one, f"{unread / 1e6:.0f} MB from it are unread")

    def _unread(self, one: _Connection) -> int:
        try:
            greetings = GREETING_BYTES + HEARTBEAT_BYTES * (time.monotonic() - one.since)
            return _received(one.descriptor) - one.taken - int(greetings)
        except OSError:
            return 0

    def _cut(self, one: _Connection, why: str) -> None:
        one.cut = True
        with _socket_of(one.descriptor) as end:
            if end is None or _accepted_from(end, self._port) is None:
                return
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if why:
            _log.warning("cut a connection of %s from %s: %s", one.name or "a stranger", one.address, why)


@contextmanager
def _socket_of(descriptor: int) -> Iterator[socket.socket | None]:
    """The socket behind a descriptor; it belongs to ZeroMQ, so it stays open."""
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        yield None
        return
    try:
        yield one
    finally:
        one.detach()


def _accepted_from(one: socket.socket, port: int) -> str | None:
    """The remote address of a connection accepted at `port`; None for any other socket."""
    try:
        if one.family not in (socket.AF_INET, socket.AF_INET6) or one.getsockname()[1] != port:
            return None
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        return str(one.getpeername()[0])
    except OSError as error:
        return "" if error.errno == errno.ENOTCONN else None


def _received(descriptor: int) -> int:
    """Bytes that a connection has brought so far, those of its encryption included."""
    with _socket_of(descriptor) as one:
        if one is None or not hasattr(socket, "TCP_INFO"):
            return 0
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("Q", info, _BYTES_RECEIVED)[0]) if len(info) >= _BYTES_RECEIVED + 8 else 0


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no /proc, or no descriptor is left to read it with
        return list(range(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_DESCRIPTORS)))
