"""A server that is told to leave: it refuses what has not begun, and has a limited time for what runs.

Its clients learn which requests had not begun, and may repeat those (transport/cluster.py). What party 0 has
begun, the others finish.
"""

from __future__ import annotations

import logging
import time

from onnxpuma.errors import StoppingError
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.orders import Orders
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.refusal import NO_SESSION

_log = logging.getLogger("onnxpuma.roles")


class Departure:
    """The end of the server whose requests wait in `agreement`. seconds: for what runs when it is told."""

    def __init__(self, orders: Orders, agreement: Agreement, seconds: float) -> None:
        self._orders, self._agreement, self._seconds = orders, agreement, seconds
        self._until: float | None = None

    @property
    def begun(self) -> bool:
        return self._orders.leave.is_set()

    @property
    def overdue(self) -> bool:
        """Whether what still runs must end: the time is over, or the order is to stop at once."""
        late = self._until is not None and time.monotonic() > self._until
        return late or self._orders.stop.is_set()

    def attend(self) -> None:
        """Once told to leave: tell the other servers, and refuse everything that waits."""
        if not self.begun:
            return
        link = self._agreement.link
        error = StoppingError(f"server {link.party} is stopping", "repeat the request: it had not begun")
        if self._until is None:
            self._until = time.monotonic() + self._seconds
            _log.info("party %d is stopping: what runs has %g s to finish", link.party, self._seconds)
            for peer in link.peers:
                self._agreement.tell(peer, wire_pb2.Refuse(session=NO_SESSION, failure=failure_of(error)))
        for job in list(self._agreement.jobs.values()):
            self._agreement.fail(job, error)
