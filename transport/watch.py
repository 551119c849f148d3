"""Whether one outgoing connection stands: read from the events that ZeroMQ reports about its socket."""

from __future__ import annotations

import errno

import zmq
from zmq.utils.monitor import recv_monitor_message

# A server whose key is another than expected closes without a word; so may one that is just being killed.
# Several times in a row means the former.
SILENT_FAILURES = 3

# The status with which a doorkeeper answers one whose key has too many connections already.
CROWDED = 500

# What is reported of a server that took the connection and said nothing: it may be stuck or far away.
_SILENCE = (errno.EAGAIN, errno.ETIMEDOUT)

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


class Watch:
    """Follows the connection of a socket that connects to one address.

    connected: the handshake succeeded and the connection has not broken since. losses: how often it has
    broken. refused: the other side said that our key is not on its list. crowded: it knows our key, and says
    that there are too many connections of it. strange: the other side is not the owner of the expected key,
    or no server of ours at all.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.connected = False
        self.losses = 0
        self.refused = False
        self.crowded = False
        self.strange = False
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(_EVENTS)
        self._socket = socket
        self._failures = 0
        self._failed = False

    @property
    def untrusted(self) -> bool:
        return self.refused or self.strange or self.crowded

    def update(self) -> bool:
        """Take in the events that have happened; True when there were any."""
        changed = False
        while int(self.monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = recv_monitor_message(self.monitor)
            self._take(event["event"], event["value"])
            changed = True
        return changed

    def _take(self, event: int, value: int) -> None:
        attempt_failed, self._failed = self._failed, False
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connected = True
            self.refused = self.strange = self.crowded = False
            self._failures = 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._failed = True
            self.crowded = value == CROWDED
            self.refused = value != CROWDED
        elif event == zmq.EVENT_DISCONNECTED:
            if self.connected:
                self.connected = False
                self.losses += 1
            elif not attempt_failed:
                self.strange = True  # it does not even greet as ZeroMQ does
        else:
            self._failed = True
            if value not in _SILENCE:
                self._failures += 1
                self.strange |= self._failures >= SILENT_FAILURES

    def close(self) -> None:
        """Stop following; the socket itself stays open."""
        self._socket.disable_monitor()
        self.monitor.close()
