"""The connection of a client to one server, and what to say when it fails."""

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
    """The way of the owner of `keys` to server `number`. Raises ConfigError when its address is none."""

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
        try:
            self.out = Outgoing(socket, place.address, keys, place.public_key, heartbeat)
        except BaseException:
            socket.close(0)
            raise
        socket.linger = LINGER_MILLISECONDS
        socket.immediate = True
        socket.probe_router = True  # the server wants to hear whose connection it is

    @property
    def watch(self) -> Watch:
        return self.out.watch

    @property
    def name(self) -> str:
        return f"server {self.number} ({self.place.address})"

    def connected(self) -> bool:
        """Whether the connection stands, as far as is known now."""
        self.out.update()
        return self.out.connected

    def push(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Queue a message; False when there is no connection."""
        return self.connected() and sockets.push(self.out.socket, frames)

    def check_trust(self) -> None:
        """Raise AuthenticationError when one side has turned out not to have the key the other expects,
        BusyError when the server has too many connections of our key."""
        if self.watch.refused:
            raise AuthenticationError(
                f"{self.name} refuses this client's public key {self._keys.public}",
                "its operator must put that key on the list of clients in cluster.toml and start it again",
            )
        if self.watch.crowded:
            raise BusyError(
                f"{self.name} has too many connections of this client's key",
                "close some, or raise `connections` under [limits] in cluster.toml at the servers",
            )
        if self.watch.strange:
            raise AuthenticationError(
                f"{self.name} is not the owner of the public key that is expected there",
                f"compare its key with {self.place.public_key} in cluster.toml, and see that the port is"
                " the one for clients",
            )

    def lost(self) -> PeerLostError:
        """The error for a connection that broke while a request was under way."""
        return PeerLostError(f"{self.name} is gone", "start it again, then repeat the request")

    def silent(self, seconds: float) -> PeerLostError:
        """The error for a server that has not answered in this time."""
        return nobody_answers([self], seconds)


def nobody_answers(missing: Sequence[ClientLine], seconds: float, hearsay: str = "") -> PeerLostError:
    """The error for servers that are not there after this time; it says whose name is not known.

    hearsay: what the other servers say of them.
    """
    unknown = [reason for line in missing if (reason := line.out.route.missing())]
    return PeerLostError(
        f"no answer from {', '.join(line.name for line in missing)} in {seconds:g} s"
        + "".join(f"; {reason}" for reason in unknown)
        + hearsay,
        "see that it runs, that its address is right, and that no firewall is between",
    )
