"""Party 0: gives each request a session, and decides which requests begin together, and when."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any

from onnxpuma.errors import PeerLostError
from onnxpuma.roles.server.agreement import Agreement, are_coins, strange
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.places import has_place, in_order, together
from onnxpuma.roles.server.returning import Returning
from onnxpuma.roles.server.turns import Turns
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.failure import error_of
from onnxpuma.transport.zeromq import Control

ANNOUNCE_AGAIN_SECONDS = 2.0


class Leader(Agreement):
    """The agreement at party 0."""

    def __init__(self, *of: Any, **settings: Any) -> None:
        super().__init__(*of, **settings)
        self.turns = Turns()
        self.returning = Returning()

    def add(self, job: Job) -> None:
        super().add(job)
        self.returning.came(job)

    def ended(self, jobs: Sequence[Job], seconds: float) -> None:
        self.returning.answered(jobs, seconds)

    def take(self, peer: int, message: Control) -> None:
        job = next((j for j in self.jobs.values() if j.session == message.session), None)
        if job is not None and isinstance(message, wire_pb2.Ready):
            if are_coins(message.coins, 1):
                job.ready[peer] = message.coins[0]
            else:
                self.fail(job, strange(peer))
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

    def pick(self, able: frozenset[int]) -> Batch | None:
        self.gathering = False
        if able != self.link.peers or len(self.running) >= self.limits.sessions:
            return None
        agreed = [job for job in self.jobs.values() if job.ready.keys() == able]
        self.gathering = bool(agreed) and self._gathers(agreed)
        jobs = [] if self.gathering else self._chosen(agreed)
        if not jobs:
            return None
        for job in jobs:
            del self.jobs[job.request.id]
            job.coins = (job.coin, *(job.ready[peer] for peer in sorted(able)))
        first, *others = (wire_pb2.Ready(session=job.session, coins=job.coins) for job in jobs)
        first.beside.extend(others)
        for peer in able:
            if not self.tell(peer, first):
                lost = PeerLostError(f"party {peer} is gone", f"start server {peer}, then repeat the request")
                for job in jobs:
                    self.port.fail(job.request, lost)
                    self.link.abort(job.session, lost.message)
                return None
        return Batch(first.session, list(jobs))

    def _gathers(self, agreed: Sequence[Job]) -> bool:
        """Whether a run had better wait a moment: for requests that just came, or are expected, and may join
        it."""
        if len(agreed) >= self.limits.batch:
            return False
        latest = time.monotonic() - self.gather
        just_came = any(job.since > latest for job in self.jobs.values() if job not in agreed)
        return just_came or self.returning.may_join(agreed)

    def _chosen(self, agreed: Sequence[Job]) -> list[Job]:
        """The jobs of the next run, by turns; none if a free place is for none of them."""
        now, jobs, elements = time.monotonic(), list[Job](), 0
        waiting = [job for job in agreed if in_order(job, self.running)]
        first = [job for job in waiting if has_place(job, self.running, self.jobs.values(), now)]
        while len(jobs) < self.limits.batch:
            job = self.turns.next([one for one in waiting if together(jobs[0], one)] if jobs else first)
            if job is None:
                break
            waiting.remove(job)
            size = sum(math.prod(shape) for shape in job.asked.shapes.values())
            if jobs and elements + size > self.limits.elements:
                break
            elements += size
            self.turns.begin(job)
            jobs.append(job)
        return jobs

    def drop(self, job: Job, why: str) -> None:
        self.jobs.pop(job.request.id, None)
        if job.session:
            self.link.abort(job.session, why)
