"""A server at work: it listens to clients and peers, and makes one run at a time, of one request or several.

Everything happens in one thread. Between two runs the server listens to both at once; during a run it looks
at its clients between rounds. A failure ends the run, not the server.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import (
    InputError,
    OnnxpumaError,
    PeerLostError,
    PlanError,
    RemoteError,
    RequestTimeoutError,
)
from onnxpuma.roles.request.network import described
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.aside import Aside
from onnxpuma.roles.server.budgets import AnswerLedger
from onnxpuma.roles.server.departure import Departure
from onnxpuma.roles.server.follower import Follower
from onnxpuma.roles.server.identity import Identity
from onnxpuma.roles.server.job import Batch
from onnxpuma.roles.server.leader import Leader
from onnxpuma.roles.server.limits import bounds_of, client_names
from onnxpuma.roles.server.orders import Orders
from onnxpuma.roles.server.progress import told_progress
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.reception import Reception, Served
from onnxpuma.roles.server.retained import Retained
from onnxpuma.roles.server.run import Begun, compute, opened
from onnxpuma.roles.server.sides import settled, sides_of
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
LOOK_SECONDS = 0.05  # between two looks at the clients during a run
DISPUTE_SECONDS = 1.0  # both servers whose shares differ hear of it before one of them ends

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
        self.signer, self.ledger = signer, ledger
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
        self.departure = Departure(orders, self.agreement, config.timeouts.drain)
        self._running: Batch | None = None
        self._looked = 0.0
        # Since when a peer has differed in a component, and the error; the peer may be gone by now.
        self._dispute: tuple[float, OnnxpumaError] | None = None
        self._odd: set[bytes] = set()  # instances of peers whose difference is logged already
        self._began = 0.0

    def serve(self, ready: Callable[[], None] | None) -> None:
        """Serve until told to stop or leave. ready: called when all three first meet; raises the error if
        they cannot."""
        complained = time.monotonic()
        batch: Batch | None = None
        while not self.orders.stop.is_set():
            if not self.agreement.hear() and batch is None:
                idle = GATHER_SECONDS if self.agreement.gathering else IDLE_SECONDS
                sockets.wait([*self.link.waits_on(), *self.port.waits_on()], idle)
            self._listen()
            self.store.expire()
            problems = self.problems()
            if not problems and ready is not None:
                planned = described(self.identity.network)
                _log.info("party %d is ready, and plans for a network of %s", self.link.party, planned)
                ready()
                ready = None
            elif ready is not None:
                self._give_up_if_alone(problems)
            if problems and time.monotonic() > complained + self.config.timeouts.connect:
                complained = time.monotonic()
                _log.warning("%s", "; ".join(problem.message for problem in problems.values()))
            self._tell_state("degraded" if problems else "idle", problems)
            tell_left_out("onnxpuma.roles")
            tell_left_out("onnxpuma.transport")
            # Connections can be renewed only while no request runs: party 0 then begins none for a moment.
            pause = self.link.renew(self.config.timeouts.renew)
            batch = self.agreement.turn(problems, begin=not pause or self.link.party != 0)
            if batch is not None:
                self._run(batch)
            elif self.departure.begun:
                return

    # ---- peers ----------------------------------------------------------------------------------------

    def problems(self) -> dict[int, OnnxpumaError]:
        """The peers that are not connected or serve another model, each with the error to report."""
        connected = self.link.connected
        found: dict[int, OnnxpumaError] = {}
        for peer in sorted(self.link.peers):
            place = self.config.parties[peer]
            why = self.agreement.refusals.get(peer)
            if peer not in connected and why is not None:
                found[peer] = PeerLostError(
                    f"party {peer} refused to start: {why}",
                    f"correct that at server {peer} and start it again; its log says more",
                )
            elif peer not in connected:
                unknown = f": {told}" if (told := self.link.unresolved(peer)) else ""
                at = f"({place.peer_address}){unknown}"
                found[peer] = PeerLostError(
                    f"party {self.link.party} is not connected to party {peer} {at}",
                    f"start server {peer}, or check that no firewall is between",
                )
            elif (error := self._difference(peer)) is not None:
                found[peer] = error
        for peer in connected:
            self.agreement.refusals.pop(peer, None)
        return found

    def _difference(self, peer: int) -> OnnxpumaError | None:
        hello = self.link.hello[peer]
        error = self.identity.difference(peer, hello)
        if error is not None and hello.instance not in self._odd:
            self._odd.add(hello.instance)
            _log.error("%s", error.message)
        return error

    def _give_up_if_alone(self, problems: dict[int, OnnxpumaError]) -> None:
        """Before the first meeting: raise an error if this server must, or might have to, be corrected."""
        hello = self.link.hello
        disputed = [peer for peer in problems if peer in hello and self.identity.disputes(peer, hello[peer])]
        error = self.identity.difference(disputed[0], hello[disputed[0]]) if disputed else None
        if error is not None:
            self._dispute = self._dispute or (time.monotonic(), error)
        elif self.link.connected == self.link.peers:
            self._dispute = None
        if self._dispute is not None and time.monotonic() > self._dispute[0] + DISPUTE_SECONDS:
            raise self._dispute[1]
        if self.link.connected != self.link.peers:
            try:
                self.link.connect(0)
            except PeerLostError:
                return
        if len(problems) == 2 and all(isinstance(problem, PlanError) for problem in problems.values()):
            raise next(iter(problems.values()))

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
        self.standing.refresh(len(self.agreement.jobs), len(self._running.present) if self._running else 0)

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
        ahead = len(waiting) + (self._running is not None)
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

    # ---- a run ----------------------------------------------------------------------------------------

    def _run(self, batch: Batch) -> None:
        _log.info("%s begin%s", batch, "" if len(batch.present) > 1 else "s")
        self._running = batch
        self._began = time.monotonic()
        self._tell_state("running", {})
        try:
            sides = sides_of(batch, self.reception, self.ledger)
            identities = [place.public_key for place in self.config.parties]
            begun = opened(self.link, batch, sides, identities, self.signer)
            begun.requests = settled(batch, sides, self.agreement)
            if begun.requests:
                self._compute(batch, begun)
        except Exception as error:
            if not isinstance(error, OnnxpumaError):
                _log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
            self._end(batch, error)
        except BaseException:
            self.link.abort(batch.session, f"party {self.link.party} was stopped")
            raise
        finally:
            self._running = None

    def _compute(self, batch: Batch, begun: Begun) -> None:
        for job in batch.present:
            self.port.reply(job.request, wire_pb2.Accepted(session=batch.session))
        graph = self.reception.graph_of(batch.present[0].request)
        progress = told_progress(batch, self.link, self.port, self._began)
        try:
            done = compute(begun, graph.interpreter, graph.joints, self._between_rounds, progress)
        finally:
            if begun.witness is not None:
                job, owner = batch.present[0], graph.plans.blueprint.owner_key
                self.retained.keep(job.request, owner, begun.witness.evidence(job))
        self.reception.admission.ran(time.monotonic() - self._began, len(done))
        for job, one in zip(batch.present, done, strict=True):
            self.store.release(job.request.client, job.asked.release)
            if one.kept:
                self.store.put(job.request.client, job.asked.handle, one.kept)
            self.port.reply(job.request, one.body, one.buffers)
            _log.info("%s is done after %.2f s, %d bytes sent", job, one.body.seconds, one.body.bytes_sent)

    def _end(self, batch: Batch, error: Exception) -> None:
        """Tell the other servers and the clients that a run has failed."""
        _log.warning("%s failed: %s", batch, line_of(error))
        self.link.abort(batch.session, line_of(error))
        for job in batch.present:
            self.port.fail(job.request, error)

    def _between_rounds(self) -> None:
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._listen()
        self.agreement.hear()
        self.agreement.turn(self.problems(), begin=False)
        if now > self._began + self.config.limits.seconds:
            raise RequestTimeoutError(
                f"the request has run for more than {self.config.limits.seconds:g} s",
                "take smaller inputs, or raise `seconds` under [limits] in cluster.toml",
            )
        if self._running is not None and all(job.request.gone for job in self._running.present):
            raise RemoteError("the client left before its request was done")
        if self.departure.overdue:
            raise RemoteError(
                f"server {self.link.party} was stopped", "start it again, then repeat the request"
            )

    def _tell_state(self, state: str, problems: dict[int, OnnxpumaError]) -> None:
        self.port.status.state = "stopping" if self.departure.begun else state
        self.port.status.detail = "; ".join(problem.message for problem in problems.values())
