"""Three servers' runs of one request in this process, over links in memory that a test may spoil."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from onnxpuma.errors import OnnxpumaError
from onnxpuma.mpc.prf import fresh_part
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.together.join import Joints
from onnxpuma.roles.client.receipt import taken_receipt
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.request.message import deal_inputs, public_part, received
from onnxpuma.roles.request.receipt import Receipt
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import Side
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.run import compute, opened
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Link, Traffic, as_bytes
from onnxpuma.transport.memory import memory_links
from onnxpuma.transport.request import Request
from onnxpuma.transport.signing import SigningKey

CLIENT = "the client's public key"
NAMES = ("key of 0", "key of 1", "key of 2")
REQUEST = b"r" * 16


@dataclass
class Ended:
    """How the three servers ended, and what the client sent."""

    body: wire_pb2.Request
    public: Sequence[Any]
    private: Sequence[Sequence[Any]]
    terms: int
    keys: Sequence[str]
    answers: dict[int, Answer] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)
    traffic: dict[int, Traffic] = field(default_factory=dict)

    def taken(self, **changes: Any) -> Receipt | None:
        """What the client takes from the answers; `changes`: in its arguments."""
        given = {
            "answers": [self.answers[party] for party in range(3)],
            "signers": self.keys,
            "terms": self.terms,
            "client_key": CLIENT,
            "body": self.body,
            "public": self.public,
            "private": self.private,
            **changes,
        }
        return taken_receipt(**given)[1]


class Three:
    """A model shared among three servers, each with a signing key."""

    def __init__(self, model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> None:
        self.model, self.feed = MemoryModel(model), feed
        self.plan = self.model.plan(feed)
        self.signing = [SigningKey.generate() for _ in range(3)]
        self.signers: list[Signer | None] = [
            Signer(key, f"p{i}", "0.1.0+code", [one.public for one in self.signing])
            for i, key in enumerate(self.signing)
        ]

    def run(
        self,
        spoiled: Callable[[Link], Link] = lambda link: link,
        session: bytes = b"s" * 16,
        signers: Sequence[Signer | None] | None = None,
    ) -> Ended:
        """One run. spoiled: the link that each server gets in place of its own."""
        plan = self.plan
        names = Selection(tuple(output.name for output in plan.results))
        body, public = public_part(self.model.blueprint, plan, self.feed, names)
        private = deal_inputs(plan, plan.client_values(self.feed))
        sent = wire_pb2.Request()
        sent.CopyFrom(body)
        sent.id, sent.public_buffers = REQUEST, len(public)
        coins = tuple(fresh_part() for _ in range(3))
        links = memory_links(timeout=20.0)
        ended = Ended(body, public, private, len(plan.opened), [key.public for key in self.signing])

        def work(party: int) -> None:
            held = [as_bytes(buffer) for buffer in private[party]]
            request = Request("c", sent, [as_bytes(b) for b in public], held, b"", (0, 0))
            job = Job(request, SimpleNamespace(plan_digest=plan.digest), {}, CLIENT)  # type: ignore[arg-type]
            job.plan, job.session, job.coins = plan, session, coins
            link, interpreter = spoiled(links[party]), self.model._interpreters[party]
            signer = (signers or self.signers)[party]
            try:
                sides = [Side(job, received(plan, party, held))]
                begun = opened(link, Batch(session, [job]), sides, NAMES, signer)
                begun.requests = [(job, sides[0].inputs or {})]
                (done,) = compute(begun, interpreter, Joints(), lambda: None, lambda *_: None)
                views = [memoryview(bytes(as_bytes(buffer))) for buffer in done.buffers]
                ended.answers[party] = Answer(done.body, views, REQUEST)
            except OnnxpumaError as error:
                ended.errors[party] = error
                links[party].abort(session, error.message)
            ended.traffic[party] = links[party].traffic

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return ended
