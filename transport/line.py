"""The outgoing connection to one other server, and what is known about that server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import zmq

from onnxpuma.errors import AuthenticationError, PeerLostError, TransportError
from onnxpuma.transport import sockets, wire_pb2
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.watch import Watch

# A server that closes on purpose says goodbye on one connection while the other one closes: which of the
# two is seen first is chance, so a broken connection counts as a death only after this time.
GOODBYE_SECONDS = 1.0
# ZeroMQ gives up for good when a key is refused; what is wrong may be corrected there, so ask again.
ASK_AGAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Where another server listens for servers ("tcp://host:port"), and its public key."""

    address: str
    public_key: str


class Line:
    """The way to server `peer` from server `party`.

    hello: what it last said about itself. left: it said goodbye. broken_since: when the connection broke
    during the current session (`time.monotonic`).
    mourned: its death is in the log. heard: when something last came from it.
    """

    def __init__(self, party: int, peer: int, place: Peer, public_key: str) -> None:
        self.party = party
        self.peer = peer
        self.place = place
        self.hello: wire_pb2.Hello | None = None
        self.left = False
        self.broken_since: float | None = None
        self.mourned = False
        self.heard = 0.0
        self.opened = False
        self._public_key = public_key

    def open(
        self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyPair, heartbeat: float, linger: float
    ) -> None:
        """Begin to connect; ConfigError when the address is none."""
        self.socket = context.socket(zmq.PUSH)
        sockets.prepare(self.socket, heartbeat)
        self.socket.linger = int(linger * 1000)
        # A message for a server that is gone is dropped, not kept for the process that comes after it.
        self.socket.immediate = True
        self.watch = Watch(self.socket)
        self.opened = True
        self._keys = keys
        self._asked = time.monotonic()
        sockets.connect(self.socket, self.place.address, keys, self.place.public_key)

    @property
    def connected(self) -> bool:
        return self.watch.connected

    def update(self) -> bool:
        """Take note of what happened to the connection; True when it has just been made anew."""
        before = self.watch.losses
        news = self.watch.update()
        if self.watch.losses > before:
            self.broken_since = time.monotonic()
            self.mourned = False
        if self.watch.untrusted and time.monotonic() > self._asked + ASK_AGAIN_SECONDS:
            self._asked = time.monotonic()
            with suppress(zmq.ZMQError):
                self.socket.disconnect(self.place.address)
            sockets.connect(self.socket, self.place.address, self._keys, self.place.public_key)
        return news and self.watch.connected

    @property
    def unsettled(self) -> bool:
        """Whether `update` and `dead` have something to do even if no event wakes their caller."""
        return self.broken_since is not None or self.watch.untrusted

    def dead(self) -> bool:
        """Whether the connection broke so long ago that no goodbye will follow."""
        if self.broken_since is None or self.left:
            return False
        return time.monotonic() > max(self.broken_since, self.heard) + GOODBYE_SECONDS

    def push(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Queue a message; False when there is no connection."""
        return self.watch.connected and sockets.push(self.socket, frames)

    def check_trust(self) -> None:
        """Raise AuthenticationError when one side has turned out not to have the key the other expects."""
        if self.watch.refused:
            raise AuthenticationError(
                f"party {self.peer} ({self.place.address}) refuses the public key of party {self.party}",
                f"the cluster.toml of party {self.peer} must give party {self.party} the public key"
                f" {self._public_key}",
            )
        if self.watch.strange:
            raise AuthenticationError(
                f"{self.place.address} does not answer as the owner of the public key of party {self.peer}",
                f"compare its key with {self.place.public_key} in cluster.toml, and see that the address is"
                " right",
            )

    def unreachable(self) -> TransportError:
        """The error to raise for a message that cannot be sent, or that will not come."""
        try:
            self.check_trust()
        except AuthenticationError as error:
            return error
        what = "has closed its link" if self.left else "is not connected"
        return PeerLostError(
            f"party {self.peer} ({self.place.address}) {what}",
            f"see that server {self.peer} runs and can be reached",
        )

    def missing(self) -> str:
        """Why this peer is not ready, in words; empty when it is."""
        if not self.watch.connected:
            return f"party {self.peer} does not answer at {self.place.address}"
        return "" if self.hello else f"party {self.peer} has not connected to this server"

    def close(self) -> None:
        """Stop watching; what is unsent goes out within the linger time of `open`."""
        self.watch.close()
        self.socket.close()
