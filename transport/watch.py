"""Whether one outgoing connection stands: read from the events that ZeroMQ reports about its socket."""

from __future__ import annotations

import errno

import zmq
from zmq.utils.monitor import recv_monitor_message

# A server whose key is another than expected closes without a word; so may one that is just being killed.
# Several times in a row means the former.
SILENT_FAILURES = 3

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
    broken. refused: the other side said that our key is not on its list. strange: the other side is not the
    owner of the expected key, or no server of ours at all.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.connected = False
        self.losses = 0
        self.refused = False
        self.strange = False
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(_EVENTS)
        self._socket = socket
        self._failures = 0

    def update(self) -> bool:
        """Take in the events that have happened; True when the connection was made, lost or refused."""
        changed = False
        while int(self.monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = recv_monitor_message(self.monitor)
            changed |= self._take(event["event"], event["value"])
        return changed

    def _take(self, event: int, value: int) -> bool:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connected = True
            self.refused = self.strange = False
            self._failures = 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refused = True
        elif event == zmq.EVENT_DISCONNECTED and self.connected:
            self.connected = False
            self.losses += 1
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
            if value != errno.ETIMEDOUT:
                self._failures += 1
                self.strange = self._failures >= SILENT_FAILURES
        else:
            return False
        return True

    def close(self) -> None:
        """Stop following; the socket itself stays open."""
        self._socket.disable_monitor()
        self.monitor.close()
