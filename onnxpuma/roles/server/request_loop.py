"""A server at work: it listens to clients and peers, and runs one request at a time.

Everything happens in one thread. Between two requests the server listens to both at once; during a request
it looks at its clients between rounds. A failure ends the request, not the server.
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
    plain_text,
)
from onnxpuma.observe import Progress
from onnxpuma.roles.request.network import described
from onnxpuma.roles.server.agreement import Agreement, Follower, Leader
from onnxpuma.roles.server.departure import Departure
from onnxpuma.roles.server.identity import Identity
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.limits import bounds_of, client_names
from onnxpuma.roles.server.orders import Orders
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.reception import Reception, Served
from onnxpuma.roles.server.run import compute
from onnxpuma.roles.server.standing import Board, Standing
from onnxpuma.roles.server.store import Store
from onnxpuma.transport import sockets, wire_pb2
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.failure import told
from onnxpuma.transport.sparing import tell_left_out
from onnxpuma.transport.zeromq import PeerLink

AT_ONCE = 100  # requests taken in before the loop looks at anything else
IDLE_SECONDS = 0.5
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
    ) -> None:
        self.signer = signer
        self.link, self.port = link, port
        self.identity, self.menus, self.orders = identity, menus, orders
        self.config = config
        self.store = Store(config.kept)
        self.reception = Reception(link.party, models, self.store, config)
        plans = [served.plans for graphs in models.values() for served in graphs.values()]
        self.standing = Standing(link, port, self.store, plans, board)
        kind = Leader if link.party == 0 else Follower
        self.agreement: Agreement = kind(link, port, config.timeouts)
        self.departure = Departure(orders, self.agreement, config.timeouts.drain)
        self._running: Job | None = None
        self._looked = 0.0
        # Since when a peer has differed in a component, and the error; the peer may be gone by now.
        self._dispute: tuple[float, OnnxpumaError] | None = None
        self._odd: set[bytes] = set()  # instances of peers whose difference is logged already
        self._began = 0.0

    def serve(self, ready: Callable[[], None] | None) -> None:
        """Serve until told to stop or leave. ready: called when all three first meet; raises the error if
        they cannot."""
        complained = time.monotonic()
        job: Job | None = None
        while not self.orders.stop.is_set():
            if not self.agreement.hear() and job is None:
                sockets.wait([*self.link.waits_on(), *self.port.waits_on()], IDLE_SECONDS)
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
            job = self.agreement.turn(problems, begin=not pause or self.link.party != 0)
            if job is not None:
                self._run(job)
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
            self.port.admit(client_names(config), bounds_of(config))
        self.standing.refresh(len(self.agreement.jobs), int(self._running is not None))

    def _take_in(self, request: Request) -> None:
        waiting = [job.request for job in self.agreement.jobs.values()]
        try:
            job = self.reception.take_in(request, waiting)
        except Exception as error:
            _log.warning("a request of %s was refused: %s", request.client, _described(error))
            self.port.fail(request, error)
            return
        ahead = len(waiting) + (self._running is not None)
        if ahead:
            self.port.reply(request, wire_pb2.Queued(ahead=ahead))
        self.agreement.add(job)

    def _serve_aside(self, request: Request) -> None:
        """Serve a request for no computation: to release kept values, or for the model's public part."""
        try:
            done = self.reception.let_go(request)
            menu = self.menus[self.reception.model_of(request)]
        except InputError as error:
            self.port.fail(request, error)
            return
        self.port.reply(request, wire_pb2.Result(), [] if done else menu)

    # ---- a request ------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        _log.info("%s begins", job)
        self._running = job
        self._began = time.monotonic()
        self._tell_state("running", {})
        try:
            self.reception.plan(job)
            self.port.reply(job.request, wire_pb2.Accepted(session=job.session))
            body, buffers, kept = compute(
                self.link,
                self.reception.graph_of(job.request).interpreter,
                job,
                self._between_rounds,
                self._tell_progress(job),
                [place.public_key for place in self.config.parties],
                self.signer,
            )
            self.store.release(job.request.client, job.asked.release)
            if kept:
                self.store.put(job.request.client, job.asked.handle, kept)
            self.port.reply(job.request, body, buffers)
            _log.info("%s is done after %.2f s, %d bytes sent", job, body.seconds, body.bytes_sent)
        except Exception as error:
            if not isinstance(error, OnnxpumaError):
                _log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
            self._end(job, error)
        except BaseException:
            self.link.abort(job.session, f"party {self.link.party} was stopped")
            raise
        finally:
            self._running = None

    def _end(self, job: Job, error: Exception) -> None:
        """Tell the other servers and the client that a job has failed."""
        _log.warning("%s failed: %s", job, _described(error))
        self.link.abort(job.session, _described(error))
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
        if self._running is not None and self._running.request.gone:
            raise RemoteError("the client left before its request was done")
        if self.departure.overdue:
            raise RemoteError(
                f"server {self.link.party} was stopped", "start it again, then repeat the request"
            )

    def _tell_progress(self, job: Job) -> Progress:
        told, before = 0.0, -1

        def progress(done: int, of: int, label: str) -> None:
            nonlocal told, before
            now = time.monotonic()
            if before < 0:  # the opening does not count
                before = self.link.traffic.bytes_sent
            if self.link.party == 0 and now > told + LOOK_SECONDS:
                told = now
                standing = wire_pb2.Progress(step=done, steps=of, label=label, seconds=now - self._began)
                standing.bytes_sent = self.link.traffic.bytes_sent - before
                self.port.reply(job.request, standing)

        return progress

    def _tell_state(self, state: str, problems: dict[int, OnnxpumaError]) -> None:
        self.port.status.state = "stopping" if self.departure.begun else state
        self.port.status.detail = "; ".join(problem.message for problem in problems.values())


def _described(error: Exception) -> str:
    """What may be logged and told of an error, in one line: its text may quote names from the client."""
    return plain_text(told(error).message)
