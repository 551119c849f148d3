"""A server at work: it listens to clients and peers, and computes what the three agree on.

Everything happens in one thread. While nothing runs the server listens to clients and peers at once. While
runs are under way (runs.py) it looks at its clients now and then, also when all runs wait for a peer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import zmq

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import InputError, OnnxpumaError
from onnxpuma.roles.request.network import described
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.aside import Aside
from onnxpuma.roles.server.budgets import AnswerLedger
from onnxpuma.roles.server.departure import Departure
from onnxpuma.roles.server.fibers import plan_ahead
from onnxpuma.roles.server.follower import Follower
from onnxpuma.roles.server.identity import Identity
from onnxpuma.roles.server.leader import Leader
from onnxpuma.roles.server.limits import bounds_of, client_names
from onnxpuma.roles.server.meeting import Meeting
from onnxpuma.roles.server.orders import Orders
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.reception import Reception, Served
from onnxpuma.roles.server.retained import Retained
from onnxpuma.roles.server.runs import Records, Runs
from onnxpuma.roles.server.standing import Board, Standing
from onnxpuma.roles.server.store import Store
from onnxpuma.transport import sockets, wire_pb2
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.failure import line_of
from onnxpuma.transport.sparing import tell_left_out
from onnxpuma.transport.zeromq import PeerLink

AT_ONCE = 100  # requests taken in before the loop looks at anything else
IDLE_SECONDS = 0.5
GATHER_SECONDS = 0.01  # that a run waits for requests that may join it
LOOK_SECONDS = 0.05  # between two looks at the clients while something runs

_log = logging.getLogger("onnxpuma.roles")


class RequestLoop:
    """A server at work: its link to the peers, its port for clients, and the models that it serves.

    models: their graphs, by name and by digest. menus: the public files of each. board: shows how the server
    stands.
    """

    def __init__(
        self,
        config: ClusterConfig,
        link: PeerLink,
        port: ClientPort,
        models: Mapping[str, Mapping[bytes, Served]],
        identity: Identity,
        menus: Mapping[str, Sequence[bytes]],
        orders: Orders,
        board: Board,
        signer: Signer | None = None,
        ledger: AnswerLedger | None = None,
    ) -> None:
        self.link, self.port = link, port
        self.identity, self.orders = identity, orders
        self.config, self.store = config, Store(config.kept)
        self.retained = Retained(config.receipts.canary_seconds)
        self.reception = Reception(link.party, models, self.store, config)
        self.aside = Aside(self.reception, self.retained, menus, signer)
        plans = [served.plans for graphs in models.values() for served in graphs.values()]
        self.standing = Standing(link, port, self.store, plans, board)
        kind: type[Agreement] = Leader if link.party == 0 else Follower
        self.agreement: Agreement = kind(link, port, config.timeouts, config.limits, GATHER_SECONDS)
        self.meeting = Meeting(config, link, identity, self.agreement)
        self.departure = Departure(orders, self.agreement, config.timeouts.drain)
        keys = [place.public_key for place in config.parties]
        records = Records(keys, signer, ledger, self.retained)
        self.runs = Runs(link, port, self.reception, self.agreement, records, lambda: self.departure.overdue)
        self._looked = 0.0

    def serve(self, ready: Callable[[], None] | None) -> None:
        """Serve until told to stop or leave. ready: called when all three first meet; raises the error if
        they cannot."""
        try:
            self._work(ready)
        finally:
            self.runs.close()

    def _work(self, ready: Callable[[], None] | None) -> None:
        complained = time.monotonic()
        while not self.orders.stop.is_set():
            if self._goes_on():
                continue
            self._listen()
            self.store.expire()
            problems = self.meeting.problems()
            if not problems and ready is not None:
                planned = described(self.identity.network)
                _log.info("party %d is ready, and plans for a network of %s", self.link.party, planned)
                ready()
                ready = None
            elif ready is not None:
                self.meeting.give_up_if_alone(problems)
            if problems and time.monotonic() > complained + self.config.timeouts.connect:
                complained = time.monotonic()
                _log.warning("%s", "; ".join(problem.message for problem in problems.values()))
            tell_left_out("onnxpuma.roles")
            tell_left_out("onnxpuma.transport")
            self.agreement.hear()
            self.runs.attend()
            # Connections are renewed while nothing is sent: party 0 then begins no run for a moment.
            pause = self.link.renew(self.config.timeouts.renew)
            while batch := self.agreement.turn(problems, begin=not pause or self.link.party != 0):
                self.runs.begin(batch)
            self._tell_state(problems)
            if self.departure.begun and not self.runs:
                return

    def _goes_on(self) -> bool:
        """Compute, or wait for something to happen; False when it is time to look at clients and peers."""
        under_way = len(self.runs)
        if not under_way:
            if not self.agreement.hear():
                self._rest(GATHER_SECONDS if self.agreement.gathering else IDLE_SECONDS)
            return False
        due = self._looked + (GATHER_SECONDS if self.agreement.gathering else LOOK_SECONDS)
        if not self.runs.go_on() and not self.link.told:
            left = max(0.0, due - time.monotonic())
            self.link.wait(0.0 if self._planned_ahead(self.link.waits_on(), left) else left)
        return len(self.runs) == under_way and not self.link.told and time.monotonic() < due

    def _rest(self, seconds: float) -> None:
        """Wait for something to happen while nothing runs."""
        listening = [*self.link.waits_on(), *self.port.waits_on()]
        if not self._planned_ahead(listening, min(seconds, LOOK_SECONDS)):
            sockets.wait(listening, seconds)

    def _planned_ahead(self, listening: Sequence[zmq.Socket[bytes]], seconds: float) -> bool:
        """If there are plans to make ahead, wait a moment for one of these sockets, then make them. Whether
        there were any."""
        ahead = self.reception.ahead
        if ahead.busy and not sockets.wait(listening, 0.0):
            plan_ahead(ahead, listening, seconds)
            return True
        return ahead.busy

    # ---- clients --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take in new requests without waiting; a flood of them does not delay the rest."""
        self._looked = time.monotonic()
        self.retained.expire()
        for _ in range(AT_ONCE):
            request = self.port.poll(0)
            if request is None:
                break
            if request.body.model_digest:
                self._take_in(request)
            else:
                self._serve_aside(request)
        self.departure.attend()
        if (config := self.orders.reloaded(self.config)) is not None:
            self.config = config
            self.reception.adopt(config)
            self.agreement.limits = config.limits
            self.retained.seconds = config.receipts.canary_seconds
            self.port.admit(client_names(config), bounds_of(config))
        self.standing.refresh(len(self.agreement.jobs), self.runs.requests)

    def _take_in(self, request: Request) -> None:
        waiting = [job.request for job in self.agreement.jobs.values()]
        try:
            job = self.reception.take_in(request, waiting)
            if job.request.body.commitment:
                self.retained.check_room()
        except Exception as error:
            _log.warning("a request of %s was refused: %s", request.client, line_of(error))
            self.port.fail(request, error)
            return
        ahead = len(waiting) + len(self.runs)
        if ahead:
            self.port.reply(request, wire_pb2.Queued(ahead=ahead))
        self.agreement.add(job)

    def _serve_aside(self, request: Request) -> None:
        try:
            answer = self.aside.answer(request)
        except InputError as error:
            self.port.fail(request, error)
            return
        self.port.reply(request, wire_pb2.Result(), answer)

    def _tell_state(self, problems: dict[int, OnnxpumaError]) -> None:
        state = "degraded" if problems else "running" if self.runs else "idle"
        self.port.status.state = "stopping" if self.departure.begun else state
        self.port.status.detail = "; ".join(problem.message for problem in problems.values())
