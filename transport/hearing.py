"""The socket at which a server hears the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import zmq

from onnxpuma.transport import sockets
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.gate import Bounds
from onnxpuma.transport.zap import PEERS, Doorkeeper

# Bounds.connections at the port for servers, where one address may have ADDRESS_FACTOR times as many.
STRANGERS = 16
# A longer wait ends after this time: so the patience of the socket, an option, hardly ever changes.
PIECE_SECONDS = 0.01
LONGEST = int(PIECE_SECONDS * 1000) + 1  # milliseconds


class Hearing:
    """Listens at "tcp://host:port" for the owners of these public keys, by party.

    Raises ConfigError when `listen` is in use or not an address of this machine.
    """

    def __init__(
        self, listen: str, keys: KeyPair, peers: Mapping[int, str], heartbeat: float, io_threads: int
    ) -> None:
        self._patience = 0  # milliseconds
        self._parties = {str(party): party for party in peers}
        self._door = Doorkeeper(io_threads)
        self._door.allow(PEERS, {key: str(party) for party, key in peers.items()})
        self.socket = self._door.context.socket(zmq.PULL)
        try:
            sockets.prepare(self.socket, heartbeat)
            self._door.guard(self.socket, PEERS, keys.secret)
            sockets.bind(self.socket, listen)
            self._gate = self._door.watch(PEERS, self.socket, Bounds(STRANGERS))
        except BaseException:
            self.close()
            raise

    @property
    def refused(self) -> Sequence[tuple[str, str, str]]:
        """The doorkeeper's list of those who were refused."""
        return self._door.refused

    def next(self, seconds: float | None = None) -> tuple[int, list[zmq.Frame]] | None:
        """The party and the frames of the next message; None if there is none.

        seconds: wait so long for it, PIECE_SECONDS at most. One blocking call costs a fraction of a poll of
        several sockets, and of the failed attempt to read that would go before it.
        """
        if seconds is None:
            frames = sockets.received(self.socket)
        else:
            patience = LONGEST if seconds >= PIECE_SECONDS else max(0, int(seconds * 1000)) + 1
            if patience != self._patience:
                self.socket.rcvtimeo = self._patience = patience
            frames = sockets.received(self.socket, 0)
        return (self._parties[str(frames[0].get("User-Id"))], frames) if frames else None

    def introduced(self, party: int, frames: list[zmq.Frame]) -> None:
        """Tell the gate that the connection of this message is that of the party."""
        self._gate.heard(int(frames[0].get(zmq.SRCFD)), str(party))

    def close(self) -> None:
        self.socket.close(0)
        self._door.close()
