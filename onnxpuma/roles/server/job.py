"""Requests on their way through a server, the digest on which all three agree, and requests of one run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.prf import fresh_part
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.request.message import Asked
from onnxpuma.roles.request.receipt import client_code, job_digest
from onnxpuma.roles.server.store import KeptShares
from onnxpuma.transport.client_port import Request

BYTES_OF_A_NUMBER = 16
SLOWEST = 1e6  # bytes a second, from a client to a server


@dataclass(eq=False)
class Job:
    """A request whose form fits the model."""

    request: Request
    asked: Asked
    held: Mapping[str, KeptShares] = field(default_factory=dict, repr=False)  # kept values, whole, by input
    client_key: str = ""  # public
    coin: bytes = field(default_factory=fresh_part, repr=False)  # this server's
    coins: tuple[bytes, ...] = field(default=(), repr=False)  # of all three, once the job has begun
    plan: Plan = field(init=False, repr=False)  # this server's own, made when the job begins
    since: float = field(default_factory=lambda: time.monotonic())
    arrived: float = 0.0  # on the clock `Agreement.attended`
    session: bytes = b""  # given by party 0
    announced: float = 0.0  # when party 0 last announced it
    answers_left: int | None = None  # of the client's budget, once this job is counted (budgets.py)
    alone: bool = False  # it runs with no other request
    ready: dict[int, bytes] = field(default_factory=dict, repr=False)  # the peers' coins, at party 0

    @cached_property
    def digest(self) -> bytes:
        """Who asks, the request, the client's plan, and the runs that made the kept values. The value
        is cached: `compute` empties `held` later."""
        plan = bytes.fromhex(self.asked.plan_digest)
        return job_digest(client_code(self.client_key), self.request.digest(), plan, self.earlier)

    @cached_property
    def earlier(self) -> tuple[bytes, ...]:
        """The sessions of the runs that made the kept values. The value is cached, as `digest`."""
        return tuple(value.session for value in self.held.values())

    def taken(self, name: str) -> Replicated:
        """This server's shares of what the input takes of its kept value. Cost: that of the copies in front
        and the rest, or nothing where there are none."""
        view, shape = self.asked.views[name], self.asked.shapes[name]
        words = self.held[name].words
        return words if words.shape == shape and not view.skip else view.of_shares(words, shape[view.axis])

    @property
    def ordered(self) -> bool:
        """Whether it reads, makes or forgets kept values: a client's requests that do run in their order."""
        asked = self.asked
        return bool(asked.held or asked.release or asked.selection.kept)

    @property
    def travel(self) -> float:
        """Seconds that its secret inputs may travel in addition to the time that any request has."""
        return sum(BYTES_OF_A_NUMBER * math.prod(shape) for shape in self.asked.shapes.values()) / SLOWEST

    def __str__(self) -> str:
        return f"request {self.request.id.hex()[:8]} of {self.request.client}"


@dataclass(eq=False)
class Batch:
    """Requests that run together."""

    session: bytes  # of the run
    # In the order of party 0, the same at all servers. None: a request that this server does not hold.
    jobs: list[Job | None]

    @property
    def present(self) -> list[Job]:
        """The requests that this server holds."""
        return [job for job in self.jobs if job is not None]

    def __str__(self) -> str:
        return " and ".join(map(str, self.present))
