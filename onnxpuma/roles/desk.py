"""A server at work: it listens to clients and peers, and runs one request at a time.

Everything happens in one thread: between two requests it listens to both at once, during a request it looks
at its clients between rounds. What goes wrong ends the request and not the server.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

import zmq

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import (
    BusyError,
    OnnxpumaError,
    PeerLostError,
    PlanError,
    RemoteError,
    plain_text,
)
from onnxpuma.interpreter import Interpreter
from onnxpuma.observe import Progress
from onnxpuma.roles.agreement import Agreement, Follower, Job, Leader
from onnxpuma.roles.identity import Identity
from onnxpuma.roles.kept import Store
from onnxpuma.roles.plans import Plans
from onnxpuma.roles.request import check_held, check_private, read_public_part
from onnxpuma.roles.run import compute
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.failure import told
from onnxpuma.transport.zeromq import PeerLink

MOST_WAITING = 32
IDLE_SECONDS = 0.5
LOOK_SECONDS = 0.05  # between two looks at the clients during a run
DISPUTE_SECONDS = 1.0  # so that both servers whose shares differ have heard of it when one of them ends

_log = logging.getLogger("onnxpuma.roles")


@dataclass(frozen=True)
class Served:
    """One graph of the model: its plans, and this server's shares of its weights."""

    plans: Plans
    interpreter: Interpreter


class Desk:
    """A server at work: its link, its clients, and what it computes with.

    graphs: by digest, which is how a request names one.
    """

    def __init__(
        self,
        config: ClusterConfig,
        link: PeerLink,
        port: ClientPort,
        graphs: Mapping[bytes, Served],
        identity: Identity,
        menu: list[bytes],
        stop: Event,
    ) -> None:
        self.link, self.port, self.graphs = link, port, graphs
        self.identity, self.menu, self.stop = identity, menu, stop
        self.config = config
        self.store = Store(config.kept)
        kind = Leader if link.party == 0 else Follower
        self.agreement: Agreement = kind(link, port, config.timeouts)
        self._arrived: list[Request] = []
        self._running: Job | None = None
        self._looked = 0.0
        self._disputed = 0.0  # since when a peer is there that holds a component otherwise
        self._odd: set[bytes] = set()
        self._poller = zmq.Poller()
        for socket in (*link.waits_on(), *port.waits_on()):
            self._poller.register(socket, zmq.POLLIN)

    def serve(self, ready: Callable[[], None] | None) -> None:
        """Until a stop; `ready` is called at the first meeting. Raises what keeps that from coming about."""
        complained = time.monotonic()
        job: Job | None = None
        while not self.stop.is_set():
            if not self.agreement.hear() and job is None:
                self._poller.poll(int(IDLE_SECONDS * 1000))
            self._listen()
            self.store.expire()
            problems = self.problems()
            if not problems and ready is not None:
                _log.info("party %d is ready", self.link.party)
                ready()
                ready = None
            elif ready is not None:
                self._give_up_if_alone(problems)
            if problems and time.monotonic() > complained + self.config.timeouts.connect:
                complained = time.monotonic()
                _log.warning("%s", "; ".join(problem.message for problem in problems.values()))
            self._tell_state("degraded" if problems else "idle", problems)
            for request in self._arrived:
                self._prepare(request)
            self._arrived = []
            job = self.agreement.turn(problems)
            if job is not None:
                self._run(job)

    # ---- peers ----------------------------------------------------------------------------------------

    def problems(self) -> dict[int, OnnxpumaError]:
        """The peers that are not connected or do not serve the same model, and what to say about it."""
        connected = self.link.connected
        found: dict[int, OnnxpumaError] = {}
        for peer in sorted(self.link.peers):
            place = self.config.parties[peer]
            if peer not in connected:
                found[peer] = PeerLostError(
                    f"party {self.link.party} is not connected to party {peer} ({place.peer_address})",
                    f"start server {peer}, or see that no firewall is between",
                )
            elif (error := self._difference(peer)) is not None:
                found[peer] = error
        return found

    def _difference(self, peer: int) -> OnnxpumaError | None:
        hello = self.link.hello[peer]
        error = self.identity.difference(peer, hello)
        if error is not None and hello.instance not in self._odd:
            self._odd.add(hello.instance)
            _log.error("%s", error.message)
        return error

    def _give_up_if_alone(self, problems: dict[int, OnnxpumaError]) -> None:
        """Before the first meeting: raise when it is this server that must be corrected, or may be."""
        if self.link.connected != self.link.peers:
            try:
                self.link.connect(0)
            except PeerLostError:
                return
        if len(problems) == 2 and all(isinstance(problem, PlanError) for problem in problems.values()):
            raise next(iter(problems.values()))
        disputes = [p for peer, p in problems.items() if self.identity.disputes(peer, self.link.hello[peer])]
        self._disputed = self._disputed or (time.monotonic() if disputes else 0.0)
        if disputes and time.monotonic() > self._disputed + DISPUTE_SECONDS:
            raise disputes[0]

    # ---- clients --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take in new requests without waiting."""
        self._looked = time.monotonic()
        while (request := self.port.poll(0)) is not None:
            ahead = len(self.agreement.jobs) + len(self._arrived) + (self._running is not None)
            if not request.body.model_digest:
                self._serve_aside(request)
            elif ahead > MOST_WAITING * (1 if self.link.party == 0 else 2):
                self.port.fail(
                    request,
                    BusyError(f"{ahead} requests wait at server {self.link.party}", "try again later"),
                )
            else:
                if ahead:
                    self.port.reply(request, wire_pb2.Queued(ahead=ahead))
                self._arrived.append(request)
        self.port.status.waiting = len(self.agreement.jobs) + len(self._arrived)

    def _serve_aside(self, request: Request) -> None:
        """What is not computed: the client lets go of what it kept, or asks for the model's public part."""
        released = [(entry.handle, entry.name) for entry in request.body.release]
        self.store.release(request.client, released)
        self.port.reply(request, wire_pb2.Result(), [] if released else self.menu)

    def _prepare(self, request: Request) -> None:
        """Check a request and make its plan, or refuse it."""
        try:
            served = self._graph_of(request)
            asked = read_public_part(request, served.plans.blueprint)
            held = {
                name: self.store.get(request.client, *place, asked.shapes[name])
                for name, place in asked.held.items()
            }
            check_held(served.plans.blueprint, asked, held)
            plan = served.plans.get(asked.shapes, asked.public, asked.selection)
            if plan.digest != asked.plan_digest:
                raise PlanError(
                    f"party {self.link.party} plans this request otherwise than the client",
                    "install the same versions of onnxpuma, onnx, onnxruntime and numpy everywhere",
                )
            check_private(plan, self.link.party, request.private)
            self.store.check_room(plan)
        except Exception as error:
            _log.warning("a request of %s was refused: %s", request.client, _described(error))
            self.port.fail(request, error)
        else:
            key = self.config.clients.get(request.client, "")
            self.agreement.add(Job(request, plan, asked, held, key))

    def _graph_of(self, request: Request) -> Served:
        """The graph that a request names; any, where it names none of ours: `read_public_part` refuses it."""
        return self.graphs.get(request.body.model_digest, next(iter(self.graphs.values())))

    # ---- a request ------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        _log.info("%s begins", job)
        self._running = job
        self._tell_state("running", {})
        try:
            self.port.reply(job.request, wire_pb2.Accepted(session=job.session))
            body, buffers, kept = compute(
                self.link,
                self._graph_of(job.request).interpreter,
                job,
                self._between_rounds,
                self._tell_progress(job),
                [place.public_key for place in self.config.parties],
            )
            self.store.release(job.request.client, job.asked.release)
            if kept:
                self.store.put(job.request.client, job.asked.handle, kept)
            self.port.reply(job.request, body, buffers)
            _log.info("%s is done after %.2f s, %d bytes sent", job, body.seconds, body.bytes_sent)
        except Exception as error:
            _log.warning("%s failed: %s", job, _described(error))
            if not isinstance(error, OnnxpumaError):
                _log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
            self.link.abort(job.session, _described(error))
            self.port.fail(job.request, error)
        except BaseException:
            self.link.abort(job.session, f"party {self.link.party} was stopped")
            raise
        finally:
            self._running = None

    def _between_rounds(self) -> None:
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._listen()
        if self._running is not None and self._running.request.gone:
            raise RemoteError("the client left before its request was done")
        if self.stop.is_set():
            raise RemoteError(
                f"server {self.link.party} was stopped", "start it again, then repeat the request"
            )

    def _tell_progress(self, job: Job) -> Progress:
        told = 0.0

        def progress(done: int, of: int, label: str) -> None:
            nonlocal told
            if self.link.party == 0 and time.monotonic() > told + LOOK_SECONDS:
                told = time.monotonic()
                self.port.reply(job.request, wire_pb2.Progress(step=done, steps=of, label=label))

        return progress

    def _tell_state(self, state: str, problems: dict[int, OnnxpumaError]) -> None:
        self.port.status.state = state
        self.port.status.detail = "; ".join(problem.message for problem in problems.values())


def _described(error: Exception) -> str:
    """What may be logged and told of an error, in one line: it may name things as the client does."""
    return plain_text(told(error).message)
