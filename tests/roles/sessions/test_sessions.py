"""Two runs at a time on three servers: requests that cannot share a run do not wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx
import pytest

from onnxpuma.errors import PlanError
from onnxpuma.roles.audit.replay import Asking as Asked
from onnxpuma.roles.audit.replay import Recorded, replay
from onnxpuma.roles.server import run, runs
from onnxpuma.roles.server.reception import Reception
from onnxpuma.roles.server.runs import Run, Runs
from tests.roles.conftest import tiny_feed
from tests.roles.sessions.conftest import Asking, Cluster, Held, right, running
from tests.roles.test_together import other_plan

pytestmark = pytest.mark.timeout(240)


def test_other_models_are_answered_while_a_run_waits_for_the_network(
    served: Cluster,
    models: dict[str, onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    held = Held(monkeypatch, "long")
    feeds = [tiny_feed(3, 4), tiny_feed(2, 3), tiny_feed(1, 2)]
    with served.client(0, "long") as slow, served.client(1, "short") as quick:
        long = Asking(slow, feeds[0])
        until(lambda: held.holding, 60)
        answers = [quick.run(feed) for feed in feeds[1:]]
        with pytest.raises(PlanError):
            other_plan(quick, feeds[1])
        assert long.is_alive()
        held.released.set()
        first = long.ended()
    assert right(models, "long", feeds[0], first)
    for feed, answer in zip(feeds[1:], answers, strict=True):
        assert right(models, "short", feed, answer)
        assert answer.receipt is not None, "the client has compared what the three signed"
    assert answers[0].reports[0].rounds < first.reports[0].rounds
    sent = [sum(report.bytes_sent for report in one.reports) for one in (answers[0], first)]
    assert sent[0] < sent[1] / 3, "each run counts its own"


class Records:
    """What determines each run of three servers in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
        self.config = config
        self.jobs: dict[tuple[bytes, int], Any] = {}
        self.private: dict[tuple[bytes, int], list[memoryview]] = {}
        self.parts: dict[tuple[bytes, int], list[bytes]] = {}
        self.interpreters: dict[tuple[bytes, int], Any] = {}
        real_compute, real_open = runs.compute, run.open_session

        def compute(begun: Any, interpreter: Any, *rest: Any) -> Any:
            key, ((job, _),) = (begun.session, begun.link.party), begun.requests
            self.jobs[key], self.interpreters[key] = job, interpreter
            self.private[key] = [memoryview(bytes(b)) for b in job.request.private]
            return real_compute(begun, interpreter, *rest)

        def open_session(link: Any, batch: Any, sides: Any, identities: Any, label: str, draw: Any) -> Any:
            parts = self.parts[batch.session, link.party] = [draw(), draw()]
            return real_open(link, batch, sides, identities, label, iter(parts).__next__)

        monkeypatch.setattr(runs, "compute", compute)
        monkeypatch.setattr(run, "open_session", open_session)

    def replayed(self, session: bytes) -> Any:
        jobs = [self.jobs[session, party] for party in range(3)]
        requests = [
            replace(job.request, private=self.private[session, party]) for party, job in enumerate(jobs)
        ]
        asking = Asked(
            jobs[0].plan,
            tuple(requests),  # type: ignore[arg-type]
            jobs[0].asked,
            jobs[0].coins,
            jobs[0].client_key,
        )
        recorded = Recorded(
            session=session,
            askings=(asking,),
            parts=tuple(tuple(self.parts[session, party]) for party in range(3)),  # type: ignore[misc]
            identities=tuple(place.public_key for place in self.config.parties),
            label="opening with receipts",
        )
        return replay(recorded, [self.interpreters[session, party] for party in range(3)])


def test_two_runs_at_a_time_are_each_replayed_to_its_receipt(
    served: Cluster, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    records = Records(monkeypatch, served.config)
    held = Held(monkeypatch, "long")
    with served.client(0, "long") as slow, served.client(1, "short") as quick:
        long = Asking(slow, tiny_feed(2, 3))
        until(lambda: held.holding, 60)
        outcomes = [quick.run(tiny_feed(1, 3))]
        held.released.set()
        outcomes.append(long.ended())
    for outcome in outcomes:
        replayed = records.replayed(bytes.fromhex(outcome.receipt.servers[0].statement["session"]))
        for signed in outcome.receipt.servers:
            me = signed.statement["party"]
            for peer in {0, 1, 2} - {me}:
                assert signed.statement["sent"][str(peer)] == replayed.chain(me, peer).hex()
                assert signed.statement["received"][str(peer)] == replayed.chain(peer, me).hex()


def test_a_run_that_has_no_memory_beside_another_waits_for_it(
    served: Cluster,
    models: dict[str, onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    """At one server alone: the two others wait for it, and all three go on alike."""
    held, order = Held(monkeypatch, "long"), list[tuple[int, str]]()
    real, budget = Runs._compute, Reception._budget

    def compute(self: Runs, one: Run, *rest: Any) -> None:
        name = one.batch.present[0].request.body.model
        order.append((self.link.party, f"{name} begins"))
        real(self, one, *rest)
        order.append((self.link.party, f"{name} ends"))

    memory = property(lambda self: 1 if self.party == 1 else 1 << 40)
    monkeypatch.setattr(Reception, "memory", memory, raising=False)
    monkeypatch.setattr(Reception, "_budget", lambda self: replace(budget(self), bytes=1 << 40))
    monkeypatch.setattr(Runs, "_compute", compute)
    feed = tiny_feed(2, 3)
    with (
        served.client(0, "long") as slow,
        served.client(1, "short") as quick,
        served.client(2, "short") as third,
    ):
        long = Asking(slow, feed)
        until(lambda: held.holding, 60)
        short = Asking(quick, feed)
        until(lambda: running(third) == [2] * 3, 60)
        held.released.set()
        assert right(models, "short", feed, short.ended())
        assert right(models, "long", feed, long.ended())
    said = [what for party, what in order if party == 1]
    assert said == ["long begins", "long ends", "short begins", "short ends"]
