"""The state of one outgoing connection, read from the events that ZeroMQ reports about its socket."""

from __future__ import annotations

import errno

import zmq
from zmq.utils.monitor import recv_monitor_message

from onnxpuma.transport.sockets import READABLE

# A server with a key other than expected closes the connection without a message; so does one that is being
# killed. Several such failures in a row mean the former.
SILENT_FAILURES = 3

# A doorkeeper's status for a client whose key has too many connections already.
CROWDED = 500

# ZeroMQ's errors for a server that accepted the connection and stayed silent: it may be stuck or far away.
_SILENCE = (errno.EAGAIN, errno.ETIMEDOUT)

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


class Watch:
    """Follows the connection of a socket that connects to one address."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.connected = False  # the handshake succeeded, and the connection has not broken since
        self.losses = 0  # how often the connection has broken
        self.refused = False  # the other side reports that our key is not on its list
        self.crowded = False  # the other side reports too many connections of our key
        self.strange = False  # the other side does not own the expected key, or is no server of ours at all
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(_EVENTS)
        self._socket = socket
        self._failures = 0
        self._failed = False

    @property
    def untrusted(self) -> bool:
        return self.refused or self.strange or self.crowded

    def update(self) -> bool:
        """Take in all pending events; True when there were any."""
        changed = False
        while int(self.monitor.getsockopt(zmq.EVENTS)) & READABLE:
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
                self.strange = True  # its greeting was not even ZeroMQ's
        else:
            self._failed = True
            if value not in _SILENCE:
                self._failures += 1
                self.strange |= self._failures >= SILENT_FAILURES

    def close(self) -> None:
        """Stop following; the socket itself stays open."""
        self._socket.disable_monitor()
        self.monitor.close()
