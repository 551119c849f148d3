"""Parties 1 and 2: say whether they hold what party 0 announces, and begin when party 0 says so."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from onnxpuma.errors import PlanError
from onnxpuma.roles.server.agreement import Agreement, are_coins, strange
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.failure import error_of, failure_of
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.zeromq import Control


class Follower(Agreement):
    """The agreement at parties 1 and 2."""

    def __init__(self, *of: Any, **settings: Any) -> None:
        super().__init__(*of, **settings)
        self._starts: dict[bytes, tuple[wire_pb2.Start, float]] = {}  # by request: those not answered yet
        self._begin: deque[Batch] = deque()  # jobs that party 0 has begun

    def ended(self, jobs: Sequence[Job], seconds: float) -> None:
        """Party 0 alone decides which requests wait for others."""

    def take(self, peer: int, message: Control) -> None:
        if isinstance(message, wire_pb2.Start) and peer == 0:
            self._starts[message.request] = (message, time.monotonic())
        elif isinstance(message, wire_pb2.Ready) and peer == 0:
            self._start(peer, message)
        elif isinstance(message, wire_pb2.Abort):
            self._starts = {r: s for r, s in self._starts.items() if s[0].session != message.session}
            for job in [j for j in self.jobs.values() if j.session == message.session]:
                self.jobs.pop(job.request.id)
                hint = f"the log of party {peer} says more"
                self.port.fail(
                    job.request, error_of(wire_pb2.Failure(message=message.message, hint=hint), peer)
                )

    def _start(self, peer: int, message: wire_pb2.Ready) -> None:
        """Begin what party 0 begins: requests that this server does not hold take no part."""
        jobs = [self._begun(peer, ready) for ready in (message, *message.beside)]
        if any(jobs):
            self._begin.append(Batch(message.session, jobs))
        else:
            self.link.abort(message.session, f"party {self.link.party} does not hold this request")

    def _begun(self, peer: int, ready: wire_pb2.Ready) -> Job | None:
        job = next((j for j in self.jobs.values() if j.session == ready.session), None)
        if job is None:
            return None
        if not are_coins(ready.coins, PARTIES) or ready.coins[self.link.party] != job.coin:
            error = strange(peer)
            self.fail(job, error)
            self.link.abort(ready.session, error.message)
            return None
        job.coins = tuple(ready.coins)
        # Taken out of `jobs`, it no longer times out.
        return self.jobs.pop(job.request.id)

    def missing(self, job: Job) -> frozenset[int]:
        return frozenset() if job.session else frozenset({0})

    def pick(self, able: frozenset[int]) -> Batch | None:
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
