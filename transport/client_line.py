"""A client's connection to one server, and the errors that explain its failures."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from onnxpuma.errors import AuthenticationError, BusyError, PeerLostError
from onnxpuma.transport import sockets
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.line import Peer
from onnxpuma.transport.outgoing import Outgoing
from onnxpuma.transport.watch import Watch

LINGER_MILLISECONDS = 200


class ClientLine:
    """The owner of `keys` connects to server `number`. Raises ConfigError for a malformed address."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        number: int,
        place: Peer,
        keys: KeyPair,
        heartbeat: float,
    ) -> None:
        self.number, self.place = number, place
        self._keys = keys
        socket = context.socket(zmq.DEALER)
        socket.linger = LINGER_MILLISECONDS
        # With `probe_router` ZeroMQ greets on every new connection, so that the server knows its owner before
        # the first request. If `immediate` were set by now, the greeting would wait until the client sends.
        socket.probe_router = True
        try:
            self.out = Outgoing(socket, place.address, keys, place.public_key, heartbeat)
        except BaseException:
            socket.close(0)
            raise
        socket.immediate = True  # for the endpoints it connects to later

    @property
    def watch(self) -> Watch:
        return self.out.watch

    @property
    def name(self) -> str:
        return f"server {self.number} ({self.place.address})"

    def connected(self) -> bool:
        """Whether the connection is up, as far as is known now."""
        self.out.update()
        return self.out.connected

    def push(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Queue a message; False when there is no connection."""
        return self.connected() and sockets.push(self.out.socket, frames)

    def check_trust(self) -> None:
        """Raise AuthenticationError when either side lacks the key that the other expects, BusyError when the
        server has too many connections of our key."""
        if self.watch.refused:
            raise AuthenticationError(
                f"{self.name} refuses this client's public key {self._keys.public}",
                "its operator must add that key under [clients] in cluster.toml and reload the server",
            )
        if self.watch.crowded:
            raise BusyError(
                f"{self.name} has too many connections of this client's key",
                "close some, or raise `connections` under [limits] in the servers' cluster.toml",
            )
        if self.watch.strange:
            raise AuthenticationError(
                f"{self.name} is not the owner of the public key expected there",
                f"compare its key with {self.place.public_key} in cluster.toml, and check that the port is"
                " the one for clients",
            )

    def lost(self) -> PeerLostError:
        """The error for a connection that broke during a request."""
        return PeerLostError(f"{self.name} is gone", "restart it, then repeat the request")

    def silent(self, seconds: float) -> PeerLostError:
        """The error for a server that has not answered within this time."""
        return nobody_answers([self], seconds)


def nobody_answers(missing: Sequence[ClientLine], seconds: float, hearsay: str = "") -> PeerLostError:
    """The error for servers that cannot be reached within this time; it names hosts that cannot be resolved.

    hearsay: what the other servers report about them.
    """
    unknown = [reason for line in missing if (reason := line.out.route.missing())]
    return PeerLostError(
        f"no answer from {', '.join(line.name for line in missing)} within {seconds:g} s"
        + "".join(f"; {reason}" for reason in unknown)
        + hearsay,
        "check that it is running, that its address is right, and that no firewall is in the way",
    )
