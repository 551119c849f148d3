"""What became of each request at this server: one entry when it ends, for the metrics and the audit log.

An entry says who asked when for what graph and shapes, what it took and how it ended. It holds no value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeAlias

from onnxpuma.errors import plain_text
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Reply, Request

MOST_LISTED = 256  # inputs and outputs of an entry: a malformed request may name any number
NAME_LENGTH = 200
DONE, LEFT = "done", "the client left"


@dataclass(frozen=True)
class Entry:
    """One request, from its arrival to its end. Times are seconds."""

    id: str
    kind: str  # "run"; "model", for its public part; "release" of kept values
    arrived: datetime
    client: str
    key: str  # the client's public key
    model: str  # its name; empty if the servers have only one
    graph: str  # digest, hex
    shapes: Mapping[str, tuple[int, ...]]  # of the inputs
    outputs: tuple[str, ...]  # opened by the client
    kept: tuple[str, ...]  # that stay at the servers
    outcome: str  # DONE, LEFT, or the class of the error
    seconds: float  # from its arrival to its end
    waited: float | None  # until it began; None if it never did
    computed: float  # as the server reports it to the client
    sent: int  # bytes, to the two other servers
    rounds: int


Sink: TypeAlias = Callable[[Entry], None]


@dataclass
class _Open:
    arrived: datetime
    since: float
    begun: float | None = None


@dataclass
class Ledger:
    """Follows the requests at a ClientPort, and tells each of `sinks` when one ends."""

    sinks: tuple[Sink, ...]
    _open: dict[bytes, _Open] = field(default_factory=dict)

    def arrived(self, request: Request) -> None:
        self._open[request.id] = _Open(datetime.now(timezone.utc), time.monotonic())

    def replied(self, request: Request, body: Reply) -> None:
        known = self._open.get(request.id)
        if known is None:
            return
        if isinstance(body, wire_pb2.Accepted):
            known.begun = time.monotonic()
        elif isinstance(body, wire_pb2.Result):
            self._end(request, DONE, body)
        elif isinstance(body, wire_pb2.Failure):
            self._end(request, body.error)

    def left(self, request: Request) -> None:
        self._end(request, LEFT)

    def _end(self, request: Request, outcome: str, result: wire_pb2.Result | None = None) -> None:
        known = self._open.pop(request.id, None)
        if known is None:
            return
        body, told = request.body, result or wire_pb2.Result()
        entry = Entry(
            id=request.id.hex(),
            kind="run" if body.model_digest else "release" if body.release else "model",
            arrived=known.arrived,
            client=request.client,
            key=request.key,
            model=_plain(body.model),
            graph=body.model_digest[:64].hex(),
            shapes={_plain(x.name): tuple(x.shape[:MOST_LISTED]) for x in body.inputs[:MOST_LISTED]},
            outputs=tuple(map(_plain, body.outputs[:MOST_LISTED])),
            kept=tuple(map(_plain, body.keep[:MOST_LISTED])),
            outcome=outcome,
            seconds=time.monotonic() - known.since,
            waited=None if known.begun is None else known.begun - known.since,
            computed=told.seconds,
            sent=told.bytes_sent,
            rounds=told.rounds,
        )
        for sink in self.sinks:
            sink(entry)


def _plain(name: str) -> str:
    return plain_text(name, NAME_LENGTH)
