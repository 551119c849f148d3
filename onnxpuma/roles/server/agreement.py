"""Which request the three servers run next: party 0 leads, the two others follow.

    party 0    Start(session, request, digest)  to both   I hold this request; do you?
    others     Ready(session, coin)             to 0      I hold the same request with the same plan
               Refuse(session, failure)         to 0      I cannot run it; this is why
    party 0    Ready(session, three coins)      to both   all three hold it: begin
    anybody    Abort(session, message)          to both   drop it
    anybody    Refuse(no session, failure)      to both   I do not start, or am about to stop; this is why

Each server draws its coin once it holds its part of the request. So nobody could predict the three coins
together when the last part was sent (protocols/sketch.py).

The leader announces requests as they come, even while one runs. They run one at a time, and clients take
turns. A request that has not reached every server delays no other, and is given up after a short time. A
server plans a request only when it begins. The leader repeats an announcement that nobody answers, so a
broken connection or a restarted server loses nothing.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence

from onnxpuma.config import TimeoutConfig
from onnxpuma.errors import (
    OnnxpumaError,
    PeerLostError,
    PlanError,
    RequestTimeoutError,
    StoppingError,
    TransportError,
    plain_text,
)
from onnxpuma.mpc.prf import PART_BYTES
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.turns import Turns
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.failure import error_of, failure_of
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.refusal import NO_SESSION
from onnxpuma.transport.zeromq import Control, PeerLink

ANNOUNCE_AGAIN_SECONDS = 2.0
ATTENTION_SECONDS = 0.5  # the most that counts as waiting between two looks: a server may be computing

_log = logging.getLogger("onnxpuma.roles")


class Agreement(ABC):
    """The requests that wait at one server."""

    def __init__(self, link: PeerLink, port: ClientPort, timeouts: TimeoutConfig) -> None:
        self.link, self.port, self.timeouts = link, port, timeouts
        self.jobs: dict[bytes, Job] = {}  # by request
        self.refusals: dict[int, str] = {}  # by peer: why it has not started
        self._complete = time.monotonic()  # when all peers were last there
        self.attended = 0.0  # a clock of the seconds in which this server listened
        self._looked = time.monotonic()
        self._alone_until = 0.0  # on the clock `attended`: when a peer was last away

    def add(self, job: Job) -> None:
        """Take in a request that has arrived."""
        job.arrived = self.attended
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

    def turn(self, problems: Mapping[int, OnnxpumaError], *, begin: bool = True) -> Job | None:
        """Drop jobs that are over and answer the other servers; the job that all three begin now, if any.

        problems: the peers that cannot take part in a request, and why. begin: False while a job runs.
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
    def take(self, peer: int, message: Control) -> None:
        """Take in a control message."""

    @abstractmethod
    def missing(self, job: Job) -> frozenset[int]:
        """The servers not known to hold this request."""

    @abstractmethod
    def answer(self, able: frozenset[int]) -> None:
        """Send what the other servers wait for. able: the peers that can take part."""

    @abstractmethod
    def pick(self, able: frozenset[int]) -> Job | None:
        """The job that begins now, if any. able: the peers that can take part."""

    @abstractmethod
    def drop(self, job: Job, why: str) -> None:
        """Forget a job that has not begun, and tell the other servers."""


class Leader(Agreement):
    """Party 0: gives each request a session and decides when it begins."""

    def __init__(self, link: PeerLink, port: ClientPort, timeouts: TimeoutConfig) -> None:
        super().__init__(link, port, timeouts)
        self.turns = Turns()

    def take(self, peer: int, message: Control) -> None:
        job = next((j for j in self.jobs.values() if j.session == message.session), None)
        if job is not None and isinstance(message, wire_pb2.Ready):
            if _are_coins(message.coins, 1):
                job.ready[peer] = message.coins[0]
            else:
                self.fail(job, _strange(peer))
        elif job is not None and isinstance(message, wire_pb2.Refuse):
            self.fail(job, error_of(message.failure, peer))

    def missing(self, job: Job) -> frozenset[int]:
        return self.link.peers - job.ready.keys()

    def answer(self, able: frozenset[int]) -> None:
        for job in self.jobs.values():
            # A peer that is away may restart and forget: it has to say Ready again.
            job.ready = {peer: coin for peer, coin in job.ready.items() if peer in able}
            job.session = job.session or os.urandom(16)
            if job.ready.keys() != able and time.monotonic() > job.announced + ANNOUNCE_AGAIN_SECONDS:
                start = wire_pb2.Start(session=job.session, request=job.request.id, digest=job.digest)
                told = [self.tell(peer, start) for peer in able - job.ready.keys()]
                job.announced = time.monotonic() if told and all(told) else job.announced

    def pick(self, able: frozenset[int]) -> Job | None:
        if able != self.link.peers:
            return None
        job = self.turns.next(job for job in self.jobs.values() if job.ready.keys() == able)
        if job is None:
            return None
        del self.jobs[job.request.id]
        self.turns.begin(job)
        job.coins = (job.coin, *(job.ready[peer] for peer in sorted(able)))
        for peer in able:
            if not self.tell(peer, wire_pb2.Ready(session=job.session, coins=job.coins)):
                lost = PeerLostError(f"party {peer} is gone", f"start server {peer}, then repeat the request")
                self.port.fail(job.request, lost)
                self.link.abort(job.session, lost.message)
                return None
        return job

    def drop(self, job: Job, why: str) -> None:
        self.jobs.pop(job.request.id, None)
        if job.session:
            self.link.abort(job.session, why)


class Follower(Agreement):
    """Parties 1 and 2: say whether they hold what party 0 announces, and begin when party 0 says so."""

    def __init__(self, link: PeerLink, port: ClientPort, timeouts: TimeoutConfig) -> None:
        super().__init__(link, port, timeouts)
        self._starts: dict[bytes, tuple[wire_pb2.Start, float]] = {}  # by request: those not answered yet
        self._begin: deque[Job] = deque()  # jobs that party 0 has begun

    def take(self, peer: int, message: Control) -> None:
        if isinstance(message, wire_pb2.Start) and peer == 0:
            self._starts[message.request] = (message, time.monotonic())
        elif isinstance(message, wire_pb2.Ready) and peer == 0:
            job = next((j for j in self.jobs.values() if j.session == message.session), None)
            if job is None:
                self.link.abort(message.session, f"party {self.link.party} does not hold this request")
            elif not _are_coins(message.coins, PARTIES) or message.coins[self.link.party] != job.coin:
                error = _strange(peer)
                self.fail(job, error)
                self.link.abort(message.session, error.message)
            else:
                job.coins = tuple(message.coins)
                # Taken out of `jobs`, it no longer times out.
                self._begin.append(self.jobs.pop(job.request.id))
        elif isinstance(message, wire_pb2.Abort):
            self._starts = {r: s for r, s in self._starts.items() if s[0].session != message.session}
            for job in [j for j in self.jobs.values() if j.session == message.session]:
                self.jobs.pop(job.request.id)
                hint = f"the log of party {peer} says more"
                self.port.fail(
                    job.request, error_of(wire_pb2.Failure(message=message.message, hint=hint), peer)
                )

    def missing(self, job: Job) -> frozenset[int]:
        return frozenset() if job.session else frozenset({0})

    def pick(self, able: frozenset[int]) -> Job | None:
        return self._begin.popleft() if self._begin else None

    def answer(self, able: frozenset[int]) -> None:
        for request, (start, since) in list(self._starts.items()):
            held = self.jobs.get(request)
            if held is not None and held.digest != start.digest:
                error = PlanError(
                    f"party {self.link.party} received a different request from party 0, or another plan",
                    "install the same versions everywhere; send the same public input to all servers",
                )
                self.port.fail(held.request, error)
                del self.jobs[request], self._starts[request]
                self.tell(0, wire_pb2.Refuse(session=start.session, failure=failure_of(error)))
            elif held is not None and able == self.link.peers:
                held.session = start.session
                del self._starts[request]
                self.tell(0, wire_pb2.Ready(session=start.session, coins=[held.coin]))
            elif time.monotonic() > since + self.timeouts.request:
                del self._starts[request]

    def drop(self, job: Job, why: str) -> None:
        self.jobs.pop(job.request.id, None)
        if job.session:
            self.tell(0, wire_pb2.Refuse(session=job.session, failure=wire_pb2.Failure(message=why)))


def _are_coins(coins: Sequence[bytes], count: int) -> bool:
    return [len(coin) for coin in coins] == [PART_BYTES] * count


def _strange(peer: int) -> TransportError:
    return TransportError(f"party {peer} sent a malformed Ready", "install the same version on all servers")
