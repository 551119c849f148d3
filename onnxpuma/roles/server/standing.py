"""How a server stands: the answer to a status query, kept up to date, and copies of it for the metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.server.store import Store
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.zeromq import PeerLink

REFRESH_SECONDS = 1.0
_STATM = Path("/proc/self/statm")


class Board:
    """The latest standing of a server that starts, serves and stops; other threads may read it."""

    def __init__(self) -> None:
        self.status = wire_pb2.Status(state="starting")
        self.looked = time.monotonic()  # when the server last looked at its clients and peers

    def show(self, status: wire_pb2.Status) -> None:
        copy = wire_pb2.Status()
        copy.CopyFrom(status)
        self.status, self.looked = copy, time.monotonic()


class Standing:
    """Keeps the status of a ClientPort up to date."""

    def __init__(
        self, link: PeerLink, port: ClientPort, store: Store, plans: Iterable[Plans], board: Board
    ) -> None:
        self._link, self._port, self._store, self._board = link, port, store, board
        self._plans = list(plans)
        self._refreshed = 0.0

    def refresh(self, waiting: int, running: int) -> None:
        """Take in the numbers of requests that wait and run; the rest once a second."""
        status = self._port.status
        status.waiting, status.running = waiting, running
        if time.monotonic() < self._refreshed + REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        status.plans = sum(map(len, self._plans))
        status.kept_bytes = self._store.size
        status.memory_bytes = resident_bytes()
        status.connections = self._port.connections
        connected, hello = self._link.connected, self._link.hello
        del status.peers[:]
        for peer in sorted(self._link.peers):
            version = hello[peer].version if peer in hello else ""
            status.peers.add(party=peer, connected=peer in connected, version=version)
        self._board.show(status)


def resident_bytes() -> int:
    """Memory that this process takes; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
