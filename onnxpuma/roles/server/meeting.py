"""The two peers as one server sees them: which of them cannot take part in a request, and why."""

from __future__ import annotations

import logging
import time

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import OnnxpumaError, PeerLostError, PlanError
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.identity import Identity
from onnxpuma.transport.zeromq import PeerLink

DISPUTE_SECONDS = 1.0  # both servers whose shares differ hear of it before one of them ends

_log = logging.getLogger("onnxpuma.roles")


class Meeting:
    """The peers at the other ends of `link`."""

    def __init__(
        self, config: ClusterConfig, link: PeerLink, identity: Identity, agreement: Agreement
    ) -> None:
        self._config, self._link, self._identity, self._agreement = config, link, identity, agreement
        # Since when a peer has differed in a component, and the error; the peer may be gone by now.
        self._dispute: tuple[float, OnnxpumaError] | None = None
        self._odd: set[bytes] = set()  # instances of peers whose difference is logged already

    def problems(self) -> dict[int, OnnxpumaError]:
        """The peers that are not connected or serve another model, each with the error to report."""
        connected = self._link.connected
        found: dict[int, OnnxpumaError] = {}
        for peer in sorted(self._link.peers):
            place = self._config.parties[peer]
            why = self._agreement.refusals.get(peer)
            if peer not in connected and why is not None:
                found[peer] = PeerLostError(
                    f"party {peer} refused to start: {why}",
                    f"correct that at server {peer} and start it again; its log says more",
                )
            elif peer not in connected:
                unknown = f": {told}" if (told := self._link.unresolved(peer)) else ""
                at = f"({place.peer_address}){unknown}"
                found[peer] = PeerLostError(
                    f"party {self._link.party} is not connected to party {peer} {at}",
                    f"start server {peer}, or check that no firewall is between",
                )
            elif (error := self._difference(peer)) is not None:
                found[peer] = error
        for peer in connected:
            self._agreement.refusals.pop(peer, None)
        return found

    def _difference(self, peer: int) -> OnnxpumaError | None:
        hello = self._link.hello[peer]
        error = self._identity.difference(peer, hello)
        if error is not None and hello.instance not in self._odd:
            self._odd.add(hello.instance)
            _log.error("%s", error.message)
        return error

    def give_up_if_alone(self, problems: dict[int, OnnxpumaError]) -> None:
        """Before the first meeting: raise an error if this server must, or might have to, be corrected."""
        hello = self._link.hello
        disputed = [peer for peer in problems if peer in hello and self._identity.disputes(peer, hello[peer])]
        error = self._identity.difference(disputed[0], hello[disputed[0]]) if disputed else None
        if error is not None:
            self._dispute = self._dispute or (time.monotonic(), error)
        elif self._link.connected == self._link.peers:
            self._dispute = None
        if self._dispute is not None and time.monotonic() > self._dispute[0] + DISPUTE_SECONDS:
            raise self._dispute[1]
        if self._link.connected != self._link.peers:
            try:
                self._link.connect(0)
            except PeerLostError:
                return
        if len(problems) == 2 and all(isinstance(problem, PlanError) for problem in problems.values()):
            raise next(iter(problems.values()))
