"""The runs that are under way at a server: each begins, computes, and answers its clients.

They share the server's thread (fibers.py). Party 0 decides which begin, and in which order. A run enters,
here, once those before it leave it the memory that it needs; until then the others wait for this server, as
for any slow one. All three let runs enter in one order, so the oldest never waits, and no two wait for each
other. A failure ends its run, not the server.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnxpuma.errors import BusyError, OnnxpumaError, RemoteError, RequestTimeoutError, TransportError
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.budgets import AnswerLedger
from onnxpuma.roles.server.fibers import Fiber, FiberLink, Fibers
from onnxpuma.roles.server.job import Batch
from onnxpuma.roles.server.places import in_order
from onnxpuma.roles.server.progress import told_progress
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.reception import Reception
from onnxpuma.roles.server.retained import Retained
from onnxpuma.roles.server.run import Begun, compute, opened
from onnxpuma.roles.server.sides import settled, sides_of
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.failure import line_of
from onnxpuma.transport.zeromq import PeerLink

ENTER_SHARE = 0.5  # of the time that its peers wait for a message: how long a run waits for memory

_log = logging.getLogger("onnxpuma.roles")


@dataclass(eq=False)
class Run:
    """One run under way."""

    batch: Batch
    began: float = field(default_factory=lambda: time.monotonic())
    fiber: Fiber | None = None
    memory: int = 0  # bytes that it takes, once it is planned
    entered: bool = False


@dataclass(frozen=True)
class Records:
    """What a server signs, counts and keeps of its runs."""

    identities: Sequence[str]  # the public keys of the three servers
    signer: Signer | None  # None for no receipts
    ledger: AnswerLedger | None
    retained: Retained


class Runs:
    """Runs of requests that `agreement` begins. overdue: whether what runs must end."""

    def __init__(
        self,
        link: PeerLink,
        port: ClientPort,
        reception: Reception,
        agreement: Agreement,
        records: Records,
        overdue: Callable[[], bool],
    ) -> None:
        self.link, self.port, self.reception, self.agreement = link, port, reception, agreement
        self.records, self._overdue = records, overdue
        self._fibers = Fibers()
        self._under_way: list[Run] = []

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def requests(self) -> int:
        """The requests that run."""
        return sum(len(run.batch.present) for run in self._under_way)

    def begin(self, batch: Batch) -> None:
        """Begin what party 0 has begun."""
        _log.info("%s begin%s", batch, "" if len(batch.present) > 1 else "s")
        run = Run(batch)
        self._under_way.append(run)
        self.agreement.running.append(batch)
        self._fibers.start(lambda fiber: self._serve(run, fiber))

    def go_on(self) -> bool:
        """Compute until every run waits or has had its turn; False if all wait for the other servers."""
        if len(self._fibers) > 1:
            self.link.read()  # all of it: what one run reads later, another may wait for
        return self._fibers.go_on()

    def attend(self) -> None:
        """End the runs that must not go on."""
        for run in list(self._under_way):
            if run.fiber is not None and (error := self._objection(run)) is not None:
                self._fibers.throw(run.fiber, error)

    def close(self) -> None:
        """End all runs, since the server stops."""
        for run in list(self._under_way):
            if run.fiber is not None:
                self._fibers.throw(run.fiber, self._stopped())

    # ---- a run ----------------------------------------------------------------------------------------

    def _serve(self, run: Run, fiber: Fiber) -> None:
        run.fiber, batch = fiber, run.batch
        try:
            self.link.enter(batch.session)  # from here on the loss of a peer ends it
            sides = sides_of(batch, self.reception, self.records.ledger)
            run.memory = sum(side.memory for side in sides)
            if any(self.reception.graph_of(job.request).interpreter.streams for job in batch.present):
                run.memory = self.reception.memory  # two that read the disk at a time would slow each other
            if not self._may_enter(run):
                fiber.wait(lambda: self._may_enter(run))
            self.link.enter(batch.session)
            run.entered, run.began = True, time.monotonic()
            link = FiberLink(self.link, fiber, self.reception.ahead)
            begun = opened(link, batch, sides, self.records.identities, self.records.signer)
            begun.requests = settled(batch, sides, self.agreement)
            if begun.requests:
                self._compute(run, fiber, begun)
        except Exception as error:
            if not isinstance(error, OnnxpumaError):
                _log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
            self._fail(batch, error)
        except BaseException:
            self.link.abort(batch.session, f"party {self.link.party} was stopped")
            raise
        finally:
            self.link.finish(batch.session)
            self._under_way.remove(run)
            self.agreement.running.remove(batch)

    def _may_enter(self, run: Run) -> bool:
        """Whether a run may enter, or has ended before it could."""
        try:
            self.link.enter(run.batch.session)
        except TransportError:
            return True
        before = self._under_way[: self._under_way.index(run)]
        if not all(one.entered for one in before):
            return False
        taken = sum(one.memory for one in before)
        if before and taken + run.memory > self.reception.memory:
            return False
        return all(in_order(job, [one.batch for one in before]) for job in run.batch.present)

    def _compute(self, run: Run, fiber: Fiber, begun: Begun) -> None:
        batch = run.batch
        for job in batch.present:
            self.port.reply(job.request, wire_pb2.Accepted(session=batch.session))
        graph = self.reception.graph_of(batch.present[0].request)
        progress = told_progress(batch, begun.link, self.port, run.began)
        try:
            done = compute(begun, graph.interpreter, graph.joints, fiber.pass_on, progress)
        finally:
            if begun.witness is not None:
                job, owner = batch.present[0], graph.plans.blueprint.owner_key
                self.records.retained.keep(job.request, owner, begun.witness.evidence(job))
        seconds = time.monotonic() - run.began
        self.reception.admission.ran(seconds, len(done), len(self))
        store = self.reception.store
        for job, one in zip(batch.present, done, strict=True):
            store.release(job.request.client, job.asked.release)
            if one.kept:
                store.put(job.request.client, job.asked.handle, one.kept)
            self.port.reply(job.request, one.body, one.buffers)
            _log.info("%s is done after %.2f s, %d bytes sent", job, one.body.seconds, one.body.bytes_sent)
        self.agreement.ended(batch.present, seconds)

    def _fail(self, batch: Batch, error: Exception) -> None:
        """Tell the other servers and the clients that a run has failed."""
        _log.warning("%s failed: %s", batch, line_of(error))
        self.link.abort(batch.session, line_of(error))
        for job in batch.present:
            self.port.fail(job.request, error)

    def _objection(self, run: Run) -> OnnxpumaError | None:
        """Why a run must not go on, if it must not."""
        seconds, now = self.agreement.limits.seconds, time.monotonic()
        patience = ENTER_SHARE * self.agreement.timeouts.request
        if self._overdue():
            return self._stopped()
        if all(job.request.gone for job in run.batch.present):
            return RemoteError("the client left before its request was done")
        if not run.entered and now > run.began + patience:
            later = self.reception.admission.wait(1)
            return BusyError(
                f"server {self.link.party} has no memory for this request beside those that run",
                f"try again in {later:.2g} s; `request_megabytes` under [limits] in cluster.toml limits it",
                later,
            )
        if now > run.began + seconds:
            return RequestTimeoutError(
                f"the request has run for more than {seconds:g} s",
                "take smaller inputs, or raise `seconds` under [limits] in cluster.toml",
            )
        return None

    def _stopped(self) -> OnnxpumaError:
        return RemoteError(f"server {self.link.party} was stopped", "start it again, then repeat the request")
