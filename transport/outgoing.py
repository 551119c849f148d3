"""A socket that connects to one place by its name, and is kept connected to where that name leads."""

from __future__ import annotations

import time
from contextlib import suppress

import zmq

from onnxpuma.transport import sockets
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.names import Route
from onnxpuma.transport.watch import Watch

# So long an address is tried before the next one of the same name.
PATIENCE_SECONDS = 3.0


class Outgoing:
    """One connection as the owner of `keys` to the owner of `server_key` at "tcp://host:port".

    Connecting begins at once where the address is a number, else at the first `update` after the name is
    known. made: when the connection came about (`time.monotonic`). Raises ConfigError when the address is
    none.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], address: str, keys: KeyPair, server_key: str, heartbeat: float
    ) -> None:
        self.socket = socket
        self.made = 0.0
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
        """Whether `update` is to be called even if no event wakes its caller: a name is being looked up."""
        return not self.watch.connected and self._endpoint not in self.route.endpoints[:1]

    def update(self) -> bool:
        """Take note of what happened, and go elsewhere when the name does; True when there was news."""
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
        """Ask once more where ZeroMQ has given up, as it does when a key is refused."""
        self._go()

    def close(self) -> None:
        """Leave; what is unsent goes out within the linger time of the socket."""
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
