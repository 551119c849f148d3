"""A socket that connects to one host by name, and follows the name when it leads elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress

import zmq

from onnxpuma.transport import sockets
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.names import Route
from onnxpuma.transport.watch import Watch

# How long to try one address of a name before the next one.
PATIENCE_SECONDS = 3.0


class Outgoing:
    """One connection from the owner of `keys` to the owner of `server_key` at "tcp://host:port".

    It begins to connect at once to a numeric address, else at the first `update` after the name is known.
    Raises ConfigError for a malformed address.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], address: str, keys: KeyPair, server_key: str, heartbeat: float
    ) -> None:
        self.socket = socket
        self.made = 0.0  # when the connection was made (`time.monotonic`)
        self._keys, self._server_key = keys, server_key
        self._endpoint = ""
        self._tried = 0.0
        sockets.prepare(socket, heartbeat)
        self.watch = Watch(socket)
        try:
            self.route = Route(address)
            self._go()
        except BaseException:
            self.watch.close()
            raise

    @property
    def connected(self) -> bool:
        return self.watch.connected

    @property
    def unsettled(self) -> bool:
        """Whether the caller must call `update` even if no event wakes it: a name is being looked up."""
        return not self.watch.connected and self._endpoint not in self.route.endpoints[:1]

    def update(self) -> bool:
        """Take in events, and connect elsewhere when the name leads elsewhere; True if there were events."""
        news = self.watch.update()
        if self.watch.connected:
            if news:
                self.made = time.monotonic()
        else:
            self.route.want()
            known = self.route.endpoints
            moved = bool(known) and self._endpoint not in known
            if moved or (len(known) > 1 and time.monotonic() > self._tried + PATIENCE_SECONDS):
                self._go()
        return news

    def again(self) -> None:
        """Connect again after ZeroMQ has given up, as it does when a key is refused."""
        self._go()

    def close(self) -> None:
        """Disconnect; unsent messages go out within the socket's linger time."""
        self.route.close()
        self.watch.close()
        self.socket.close()

    def _go(self) -> None:
        """Connect to the next endpoint of the name."""
        known = self.route.endpoints
        if not known:
            return
        if self._endpoint:
            with suppress(zmq.ZMQError):
                self.socket.disconnect(self._endpoint)
        place = known.index(self._endpoint) + 1 if self._endpoint in known else 0
        self._endpoint = known[place % len(known)]
        self._tried = time.monotonic()
        sockets.connect(self.socket, self._endpoint, self._keys, self._server_key)
