"""The outgoing connection to one other server, and the state of that server as seen from here."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import zmq

from onnxpuma.errors import AuthenticationError, PeerLostError, TransportError
from onnxpuma.transport import sockets, wire, wire_pb2
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.outgoing import Outgoing
from onnxpuma.transport.watch import Watch

# A server that closes on purpose says goodbye on one connection while the other one closes. Either may be
# seen first, so a broken connection counts as a death only after this time.
GOODBYE_SECONDS = 1.0
# ZeroMQ gives up for good when a key is refused. The other side may correct its list, so ask again.
ASK_AGAIN_SECONDS = 2.0
# A fresh connection replaces the old one after QUIET_SECONDS in which nothing was sent; it is given up if
# RENEWAL_SECONDS pass before that.
QUIET_SECONDS = 1.0
RENEWAL_SECONDS = 30.0
# A connection older than this times its allowed age makes sessions wait for a fresh one.
RENEW_LATEST = 1.1

_log = logging.getLogger("onnxpuma.transport")


@dataclass(frozen=True, slots=True)
class Peer:
    """Where another server listens for servers ("tcp://host:port"), and its public key."""

    address: str
    public_key: str


class Line:
    """The way from server `party` to server `peer`. Times are those of `time.monotonic`."""

    def __init__(self, party: int, peer: int, place: Peer, public_key: str) -> None:
        self.party = party
        self.peer = peer
        self.place = place
        self.hello: wire_pb2.Hello | None = None  # its latest introduction
        self.left = False  # it said goodbye
        self.broken_since: float | None = None  # when the connection broke during the current session
        self._mourned = False  # its death is in the log
        self.heard = 0.0  # when its latest message came
        self.opened = False
        self._public_key = public_key
        self._sent = 0.0
        self._new: Outgoing | None = None

    def open(
        self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyPair, heartbeat: float, linger: float
    ) -> None:
        """Begin to connect; ConfigError for a malformed address."""
        self._settings = context, keys, heartbeat, int(linger * 1000)
        self._asked = time.monotonic()
        self._out = self._dial()
        self.opened = True

    def _dial(self) -> Outgoing:
        context, keys, heartbeat, linger = self._settings
        socket = context.socket(zmq.PUSH)
        sockets.widen(socket)
        try:
            out = Outgoing(socket, self.place.address, keys, self.place.public_key, heartbeat)
        except BaseException:
            socket.close(0)
            raise
        socket.linger = linger
        # A message for a server that is gone is dropped, not kept for the process that replaces it.
        socket.immediate = True
        return out

    @property
    def watch(self) -> Watch:
        return self._out.watch

    @property
    def connected(self) -> bool:
        return self.watch.connected

    @property
    def mute(self) -> bool:
        """Whether no more messages can come: the peer has left, or was not there in this session."""
        return not self._out.watch.connected and (self.left or self.broken_since is None)

    def update(self) -> bool:
        """Take in the connection's events; True when it has just been made anew."""
        before = self.watch.losses
        news = self._out.update()
        if self.watch.losses > before:
            self.broken_since = time.monotonic()
            self._mourned = False
        if self.watch.untrusted and time.monotonic() > self._asked + ASK_AGAIN_SECONDS:
            self._asked = time.monotonic()
            self._out.again()
        return news and self.watch.connected

    @property
    def unsettled(self) -> bool:
        """Whether the caller must call `update` and `dead` even if no event wakes it."""
        return self.broken_since is not None or self.watch.untrusted or self._out.unsettled

    def age(self) -> float:
        """Seconds since the connection and its session keys were made; 0 without a connection."""
        return time.monotonic() - self._out.made if self.connected else 0.0

    def outdated(self, seconds: float) -> bool:
        """Whether the connection is well over `seconds` old, and a fresh one is up and waits for a moment in
        which nothing is sent."""
        return self._new is not None and self._new.connected and self.age() > RENEW_LATEST * seconds

    def renew(self, seconds: float) -> bool:
        """Once the connection is `seconds` old, make a second one, which replaces the first when it is up and
        nothing has been sent for QUIET_SECONDS. True when it has just done so."""
        if self._new is None:
            if self.age() > seconds and time.monotonic() > self._asked + ASK_AGAIN_SECONDS:
                self._asked = time.monotonic()
                self._new = self._dial()
            return False
        self._new.update()
        if not self.connected or time.monotonic() > self._asked + RENEWAL_SECONDS:
            # Either reconnecting brings fresh keys anyway, or the peer does not answer a second connection.
            self._new.close()
            self._new = None
        elif self._new.connected and time.monotonic() > self._sent + QUIET_SECONDS:
            # The latest message has arrived by now, so nothing on the new connection can overtake it.
            old, self._out, self._new = self._out, self._new, None
            old.close()
            return True
        return False

    def dead(self) -> bool:
        """Whether the connection broke so long ago that no goodbye will follow."""
        if self.broken_since is None or self.left:
            return False
        return time.monotonic() > max(self.broken_since, self.heard) + GOODBYE_SECONDS

    def mourn(self) -> str:
        """What to tell of a peer that is dead; the log says it once."""
        message = f"party {self.peer} ({self.place.address}) died or no longer answers"
        if not self._mourned:
            self._mourned = True
            _log.warning("%s", message)
        return message

    def push(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Queue a message; False when there is no connection."""
        self._sent = time.monotonic()
        out = self._out
        return out.watch.connected and sockets.push(out.socket, frames)

    def check_trust(self) -> None:
        """Raise AuthenticationError when either side lacks the key that the other expects."""
        if self.watch.refused:
            raise AuthenticationError(
                f"party {self.peer} ({self.place.address}) refuses the public key of party {self.party}",
                f"the cluster.toml of party {self.peer} must give party {self.party} the public key"
                f" {self._public_key}",
            )
        if self.watch.strange:
            raise AuthenticationError(
                f"{self.place.address} does not answer as the owner of the public key of party {self.peer}",
                f"compare its key with {self.place.public_key} in cluster.toml, and check that the address is"
                " right",
            )

    def unreachable(self) -> TransportError:
        """The error to raise for a message that cannot be sent or will not arrive."""
        try:
            self.check_trust()
        except AuthenticationError as error:
            return error
        what = "has closed its link" if self.left else self._out.route.missing() or "is not connected"
        return PeerLostError(
            f"party {self.peer} ({self.place.address}) {what}",
            f"check that server {self.peer} is running and reachable",
        )

    def check_hello(self) -> None:
        """Raise TransportError when the peer introduced itself in another version or as another party."""
        hello = self.hello
        if hello is not None and (hello.wire != wire.WIRE_VERSION or hello.party != self.peer):
            raise TransportError(
                f"party {self.peer} speaks wire version {hello.wire} as party {hello.party};"
                f" here it is version {wire.WIRE_VERSION}",
                "install the same version of onnxpuma on all servers, and the same cluster.toml",
            )

    def unresolved(self) -> str:
        """Why the name of this peer's host leads nowhere; empty if it leads somewhere."""
        return self._out.route.missing()

    def missing(self) -> str:
        """Why this peer is not ready, for people to read; empty when it is ready."""
        if unknown := self.unresolved():
            return f"party {self.peer} is not found: {unknown}"
        if not self.watch.connected:
            return f"party {self.peer} does not answer at {self.place.address}"
        return "" if self.hello else f"party {self.peer} has not connected to this server"

    def close(self) -> None:
        """Disconnect; unsent messages go out within the linger time of `open`, unless the peer has left."""
        for out in (self._out, self._new):
            if out is not None:
                if self.left:
                    out.socket.linger = 0
                out.close()


def incomplete(
    lines: Iterable[Line], refused: Sequence[tuple[str, str, str]], seconds: float
) -> PeerLostError:
    """The error for peers that are missing after this time. refused: the doorkeeper's list."""
    missing = " and ".join(filter(None, (line.missing() for line in lines)))
    hint = "start the server, or correct its address in cluster.toml; check that no firewall is in the way"
    if refused:
        _, address, key = refused[-1]
        hint = f"a connection from {address} with the public key {key} was refused: is it in cluster.toml?"
    return PeerLostError(f"after {seconds:g} s {missing}", hint)
