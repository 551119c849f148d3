"""A model, shared in memory, a request for it, and what determines its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.prf import fresh_part
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.audit.replay import Asking, Recorded, Replayed, replay
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.request.answer import open_result
from onnxpuma.roles.request.feed import check_feed
from onnxpuma.roles.request.message import deal_inputs, public_part, read_public_part
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import as_bytes
from onnxpuma.transport.request import Request

CLIENT = "the client's public key"
IDENTITIES = ("key of 0", "key of 1", "key of 2")
LABEL = "opening with receipts"


@dataclass
class Case:
    """One request for a model, by three servers."""

    plan: Plan
    recorded: Recorded
    weights: list[Any] = field(repr=False)  # by party
    clear: Mapping[str, np.ndarray] = field(repr=False)  # the true outputs

    @classmethod
    def of(cls, model: onnx.ModelProto, feed: Mapping[str, np.ndarray], session: bytes = b"s" * 16) -> Case:
        shared = MemoryModel(model)
        asking = asking_of(shared, feed)
        names = [output.name for output in model.graph.output]
        plain = onnxruntime.InferenceSession(model.SerializeToString()).run(names, dict(feed))
        weights = [one._weights for one in shared._interpreters]
        return cls(asking.plan, recorded_of([asking], session), weights, dict(zip(names, plain, strict=True)))

    def interpreters(self) -> list[Interpreter]:
        """Fresh ones: nothing is left in them of an earlier run."""
        return [Interpreter(weights) for weights in self.weights]

    def replay(self, interpreters: list[Interpreter] | None = None) -> Replayed:
        return replay(self.recorded, interpreters or self.interpreters())


def opened_by(plan: Plan, run: Replayed, number: int = 0) -> dict[str, np.ndarray]:
    """What the client of request `number` makes of the answers."""
    done = [run.done[party][number] for party in range(3)]
    answers = [Answer(one.body, [as_bytes(buffer) for buffer in one.buffers], b"") for one in done]
    return open_result(plan, answers)[0]


def asking_of(
    model: MemoryModel, feed: Mapping[str, Any], selection: Selection | None = None, **more: Any
) -> Asking:
    """A request with fresh shares of the feed. more: what `Asking` and the wire form take."""
    checked = check_feed(model.blueprint, feed)
    plan = model.plan(feed) if selection is None else more.pop("plan")
    selection = selection or Selection(tuple(output.name for output in plan.results))
    body, public = public_part(model.blueprint, plan, checked, selection, more.pop("handle", b""))
    body.id, body.public_buffers = b"r" * 16, len(public)
    shown = [as_bytes(buffer) for buffer in public]
    requests = [
        Request("c", body, shown, [as_bytes(buffer) for buffer in own], b"", (0, 0))
        for own in deal_inputs(plan, plan.client_values(checked))
    ]
    return Asking(
        plan,
        (requests[0], requests[1], requests[2]),
        read_public_part(requests[0], model.blueprint),
        tuple(fresh_part() for _ in range(3)),
        CLIENT,
        **more,
    )


def recorded_of(askings: Sequence[Asking], session: bytes = b"s" * 16) -> Recorded:
    """A run of these requests, with fresh parts of the three servers."""
    parts = tuple((fresh_part(), fresh_part()) for _ in range(3))
    return Recorded(session, tuple(askings), parts, IDENTITIES, LABEL)
