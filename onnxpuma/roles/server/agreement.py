"""Which request the three servers run next: party 0 leads, the two others follow.

    party 0    Start(session, request, digest)  to both   I hold this request; do you?
    others     Ready(session, coin)             to 0      I hold the same request with the same plan
               Refuse(session, failure)         to 0      I cannot run it; this is why
    party 0    Ready(session, three coins)      to both   all three hold it: begin, with the requests `beside`
    anybody    Abort(session, message)          to both   drop it
    anybody    Refuse(no session, failure)      to both   I do not start, or am about to stop; this is why

Each server draws its coin once it holds its part of the request. So nobody could predict the three coins
together when the last part was sent (protocols/sketch.py).

The leader announces requests as they come, even while some run. Requests of one graph that all three hold
when a run begins are one run, up to a number; clients take turns. A few runs are under way at a time
(places.py). A request that has not reached every server delays no other, and is given up after a short time.
A server plans a request when it begins, unless it guessed the plan before. The leader repeats an announcement
that nobody answers, so a broken connection or a restarted server loses nothing.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from onnxpuma.config import LimitConfig, TimeoutConfig
from onnxpuma.errors import (
    OnnxpumaError,
    PlanError,
    RequestTimeoutError,
    StoppingError,
    TransportError,
    plain_text,
)
from onnxpuma.mpc.prf import PART_BYTES
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.refusal import NO_SESSION
from onnxpuma.transport.zeromq import Control, PeerLink

ATTENTION_SECONDS = 0.5  # the most that counts as waiting between two looks: a server may be computing

_log = logging.getLogger("onnxpuma.roles")


class Agreement(ABC):
    """The requests that wait at one server."""

    def __init__(
        self,
        link: PeerLink,
        port: ClientPort,
        timeouts: TimeoutConfig,
        limits: LimitConfig = LimitConfig(),  # noqa: B008
        gather: float = 0.0,  # seconds that a run waits for requests that are being agreed upon
    ) -> None:
        self.link, self.port, self.timeouts = link, port, timeouts
        self.limits, self.gather = limits, gather
        self.gathering = False  # whether a run waits for requests that may join it
        self.jobs: dict[bytes, Job] = {}  # by request
        self.running: list[Batch] = []  # in the order of party 0
        self.refusals: dict[int, str] = {}  # by peer: why it has not started
        self._complete = time.monotonic()  # when all peers were last there
        self.attended = 0.0  # a clock of the seconds in which this server listened
        self._looked = time.monotonic()
        self._alone_until = 0.0  # on the clock `attended`: when a peer was last away

    def add(self, job: Job) -> None:
        """Take in a request that has arrived."""
        job.arrived = self.attended
        self.jobs[job.request.id] = job

    def put_back(self, job: Job) -> None:
        """Take in a request again that was to run and did not: it is agreed upon once more, to run alone."""
        job.ready, job.coins, job.announced, job.alone = {}, (), 0.0, True
        self.jobs[job.request.id] = job

    def hear(self) -> bool:
        """Take in what the other servers said; False if they said nothing."""
        heard = False
        while (news := self.link.poll_control(0)) is not None:
            peer, message = news
            if isinstance(message, wire_pb2.Refuse) and message.session == NO_SESSION:
                self._refused(peer, message.failure)
            else:
                self.take(peer, message)
            heard = True
        return heard

    def _refused(self, peer: int, failure: wire_pb2.Failure) -> None:
        """Note that a server does not start. It may try again and fail alike; the log tells that once."""
        why = plain_text(failure.message)
        if failure.error == StoppingError.__name__:
            _log.info("party %d is stopping", peer)
            return
        if self.refusals.get(peer) != why:
            _log.error("party %d refused to start: %s", peer, why)
        self.refusals[peer] = why

    def turn(self, problems: Mapping[int, OnnxpumaError], *, begin: bool = True) -> Batch | None:
        """Drop jobs that are over and answer the other servers; the jobs that all three begin now, if any.

        problems: the peers that cannot take part in a request, and why. begin: whether a run may begin.
        """
        now = time.monotonic()
        self.attended += min(now - self._looked, ATTENTION_SECONDS)
        self._looked = now
        problem = next(iter(problems.values()), None)
        if problem is None:
            self._complete = now
        else:
            self._alone_until = self.attended
        for job in list(self.jobs.values()):  # a copy: `drop` and `fail` take jobs out
            if job.request.gone:
                self.drop(job, "the client left")
            elif now > job.since + self.timeouts.request:
                self.fail(job, RequestTimeoutError("the request waited too long", "send it again"))
            elif isinstance(problem, PlanError) or (
                problem is not None and now > max(job.since, self._complete) + self.timeouts.connect
            ):
                self.fail(job, problem)
            elif missing := self._overdue(job):
                names = " and ".join(f"server {peer}" for peer in sorted(missing))
                late = RequestTimeoutError(
                    f"the request reached server {self.link.party} but not {names}",
                    "send it to all three; `arrival` under [timeouts] in cluster.toml limits the time",
                )
                self.fail(job, late)
        able = self.link.peers - problems.keys()
        self.answer(able)
        return self.pick(able) if begin else None

    def _overdue(self, job: Job) -> frozenset[int]:
        """The servers that do not hold this request although the time to reach them is over."""
        since = max(job.arrived, self._alone_until)
        late = self.attended > since + self.timeouts.arrival + job.travel
        return self.missing(job) if late else frozenset()

    def fail(self, job: Job, error: OnnxpumaError) -> None:
        """End a job that has not begun: here, at its client and at the other servers."""
        _log.warning("%s failed: %s", job, error.message)
        self.port.fail(job.request, error)
        self.drop(job, error.message)

    def tell(self, peer: int, message: Control) -> bool:
        """Send a control message; False if the peer is not there."""
        try:
            self.link.send_control(peer, message)
        except TransportError:
            return False
        return True

    @abstractmethod
    def ended(self, jobs: Sequence[Job], seconds: float) -> None:
        """Note that the run of these requests took so long, and that they have their answers."""

    @abstractmethod
    def take(self, peer: int, message: Control) -> None:
        """Take in a control message."""

    @abstractmethod
    def missing(self, job: Job) -> frozenset[int]:
        """The servers not known to hold this request."""

    @abstractmethod
    def answer(self, able: frozenset[int]) -> None:
        """Send what the other servers wait for. able: the peers that can take part."""

    @abstractmethod
    def pick(self, able: frozenset[int]) -> Batch | None:
        """The jobs that begin now, if any. able: the peers that can take part."""

    @abstractmethod
    def drop(self, job: Job, why: str) -> None:
        """Forget a job that has not begun, and tell the other servers."""


def are_coins(coins: Sequence[bytes], count: int) -> bool:
    return [len(coin) for coin in coins] == [PART_BYTES] * count


def strange(peer: int) -> TransportError:
    return TransportError(f"party {peer} sent a malformed Ready", "install the same version on all servers")
