"""A request on its way through a server: what all three have to agree on before it runs."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from onnxpuma.mpc.prf import fresh_part
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.request.message import Asked
from onnxpuma.roles.server.store import KeptShares
from onnxpuma.transport.client_port import Request

BYTES_OF_A_NUMBER, SLOWEST = 16, 1e6  # a second, from a client to a server


@dataclass(eq=False)
class Job:
    """A request whose form fits the model, and the kept values it takes, by input.

    client_key: the client's public key. `digest` is what the three servers compare: who asks, request, the
    digest of the plan that the client made, and which runs made the kept values. plan: this server's own,
    made when the request begins. arrived: on the clock `Agreement.attended`. coin: this server's; coins: of
    all three, once the job has begun.
    """

    request: Request
    asked: Asked
    held: Mapping[str, KeptShares] = field(default_factory=dict, repr=False)
    client_key: str = ""
    coin: bytes = field(default_factory=fresh_part, repr=False)
    coins: tuple[bytes, ...] = field(default=(), repr=False)
    plan: Plan = field(init=False, repr=False)
    since: float = field(default_factory=lambda: time.monotonic())
    arrived: float = 0.0
    session: bytes = b""
    announced: float = 0.0
    ready: dict[int, bytes] = field(default_factory=dict, repr=False)  # the peers' coins, at party 0

    @cached_property
    def digest(self) -> bytes:
        key = hashlib.sha256(self.client_key.encode()).digest()
        made = b"".join(value.session for value in self.held.values())
        content = key + self.request.digest() + bytes.fromhex(self.asked.plan_digest) + made
        return hashlib.sha256(content).digest()

    @property
    def travel(self) -> float:
        """Seconds that its secret inputs may be on their way besides the time that any request has."""
        return sum(BYTES_OF_A_NUMBER * math.prod(shape) for shape in self.asked.shapes.values()) / SLOWEST

    def __str__(self) -> str:
        return f"request {self.request.id.hex()[:8]} of {self.request.client}"
