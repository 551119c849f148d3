"""Two runs at a time on three servers: requests that cannot share a run do not wait for each other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxpuma.config import LimitConfig
from onnxpuma.errors import OnnxpumaError, PlanError, TransportError
from onnxpuma.roles.audit.replay import Asking as Asked
from onnxpuma.roles.audit.replay import Recorded, replay
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.server import run, runs
from onnxpuma.roles.server.reception import Reception
from onnxpuma.roles.server.runs import Run, Runs
from onnxpuma.transport.curve import generate
from onnxpuma.transport.signing import SigningKey
from tests.roles.conftest import TIMEOUTS, Hall, tiny_feed, tiny_model
from tests.roles.test_kept import NO_PAST, cached_model, rows
from tests.roles.test_together import other_plan

pytestmark = pytest.mark.timeout(240)

LAYERS = 12  # of the models whose runs take many rounds
CLIENTS = 8
ERROR = {
    "long": 0.05,
    "other": 0.05,
    "short": 1e-3,
    "cached": 1e-3,
}  # fifty layers of tanh amplify the rounding
HELD_ROUND = 5
Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    return {
        "long": tiny_model(seed=1, layers=LAYERS),
        "other": tiny_model(seed=3, layers=LAYERS),
        "short": tiny_model(seed=2),
        "cached": cached_model(),
    }


@pytest.fixture(scope="module")
def folders(models: dict[str, onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models, shared."""
    made = {}
    for name, model in models.items():
        made[name] = tmp_path_factory.mktemp(name)
        onnx.save(model, made[name] / "model.onnx")
        share_model(made[name] / "model.onnx", made[name])
    return made


class Cluster(Hall):
    """Three servers in threads that serve all models to eight clients, and sign what they do."""

    def __init__(self, folders: dict[str, Path], **limits: int) -> None:
        super().__init__()
        self.client_pairs = [self.client_keys, *[generate() for _ in range(CLIENTS - 1)]]
        clients = {f"c{number}": pair.public for number, pair in enumerate(self.client_pairs)}
        signing = [SigningKey.generate() for _ in range(3)]
        rows = [
            replace(row, signing_key=key.public)
            for row, key in zip(self.config.parties, signing, strict=True)
        ]
        self.config = replace(
            self.config,
            parties=tuple(rows),
            clients=clients,
            limits=LimitConfig(**limits),
            timeouts=replace(TIMEOUTS, connect=30.0, heartbeat=30.0, arrival=30.0, request=120.0),
        )
        threads = [self.start(party, folders, signing=signing[party]) for party in range(3)]
        assert all(thread.ready.wait(60) for thread in threads)

    def client(self, number: int, model: str) -> Client:
        return Client(self.config, self.client_pairs[number], model_name=model)


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[Cluster]:
    made = Cluster(folders)
    yield made
    made.stop()


class Asking(Thread):
    """One request in a thread."""

    def __init__(self, client: Client, feed: Feed, **options: Any) -> None:
        super().__init__(daemon=True)
        self.client, self.feed, self.options = client, feed, options
        self.begun = Event()  # it computes
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.client.run(self.feed, progress=self._note, **self.options)
        except OnnxpumaError as error:
            self.outcome = error

    def _note(self, done: int, of: int, label: str) -> None:
        if done:
            self.begun.set()

    def ended(self, seconds: float = 100.0) -> Any:
        self.join(seconds)
        assert not self.is_alive(), "the client hangs"
        return self.outcome


def right(models: dict[str, onnx.ModelProto], name: str, feed: Feed, outcome: Any) -> bool:
    """Whether this is the model's answer, as one computes it in the clear."""
    assert isinstance(outcome, Outcome), outcome
    session = onnxruntime.InferenceSession(models[name].SerializeToString())
    return bool(np.abs(outcome.outputs["y"] - session.run(["y"], feed)[0]).max() < ERROR[name])


class Held:
    """Runs of these models get no further than a few rounds at party 0, as on a network that is down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *models: str) -> None:
        self.released, self.holding = Event(), list[str]()
        real = runs.compute

        def compute(begun: Any, interpreter: Any, joints: Any, on_round: Any, progress: Any) -> Any:
            model = begun.requests[0][0].request.body.model
            if begun.link.party == 0 and model in models:
                on_round = self._stopping(on_round, model)
            return real(begun, interpreter, joints, on_round, progress)

        monkeypatch.setattr(runs, "compute", compute)

    def _stopping(self, on_round: Any, model: str) -> Callable[[], None]:
        rounds = 0

        def stop() -> None:
            nonlocal rounds
            rounds += 1
            on_round()
            if rounds == HELD_ROUND:
                self.holding.append(model)
                on_round.__self__.wait(self.released.is_set)

        return stop


def running(client: Client) -> list[int]:
    """The requests that run, by server."""
    return [status.running for status in client.status()]  # type: ignore[union-attr]


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
    assert answers[0].reports[0].bytes_sent < first.reports[0].bytes_sent / 3, "each run counts its own"


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


def test_a_client_that_leaves_ends_its_run_alone(
    served: Cluster,
    models: dict[str, onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    """Its run waits, at each of the servers, for words that never come."""
    held, feed = Held(monkeypatch, "long", "other"), tiny_feed(2, 3)
    with served.client(1, "other") as patient, served.client(2, "short") as third:
        with served.client(0, "long") as leaving:
            both = [Asking(leaving, feed, timeout=2.0), Asking(patient, feed)]
            until(lambda: set(held.holding) == {"long", "other"}, 60)
            assert isinstance(both[0].ended(), OnnxpumaError)
        until(lambda: running(third) == [1] * 3, 30)
        held.released.set()
        assert right(models, "other", feed, both[1].ended())
        until(lambda: running(third) == [0] * 3, 30)


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


def test_a_stop_is_obeyed_while_the_server_waits_for_a_peer(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Party 2 computes, or hangs, for longer than anybody wants to wait; it answers pings all the time."""
    made, held, release = Cluster(folders), Event(), Event()
    real = runs.compute

    def compute(begun: Any, *rest: Any) -> Any:
        if begun.link.party == 2:
            held.set()
            assert release.wait(60)
        return real(begun, *rest)

    try:
        monkeypatch.setattr(runs, "compute", compute)
        with made.client(0, "short") as client:
            asking = Asking(client, tiny_feed(1, 3))
            assert held.wait(60)
            time.sleep(0.3)  # the others have sent their words, and wait
            made.started[0].orders.stop.set()
            assert made.started[0].ended(20) is None
            assert "server 0 was stopped" in str(asking.ended(20))
    finally:
        release.set()
        made.stop()


def test_a_server_that_leaves_finishes_both_runs(
    folders: dict[str, Path],
    models: dict[str, onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    made, feed, held = Cluster(folders), tiny_feed(1, 2), Held(monkeypatch, "long", "other")
    try:
        with made.client(0, "long") as one, made.client(1, "other") as two, made.client(2, "short") as third:
            both = [Asking(client, feed) for client in (one, two)]
            until(lambda: set(held.holding) == {"long", "other"}, 60)
            until(lambda: running(third) == [2] * 3, 30)
            made.started[1].orders.leave.set()
            until(lambda: third.status()[1].state == "stopping", 30)  # type: ignore[union-attr]
            held.released.set()
            assert made.started[1].ended(100) is None
            outcomes = [asking.ended() for asking in both]
    finally:
        held.released.set()
        made.stop()
    for name, outcome in zip(("long", "other"), outcomes, strict=True):
        assert right(models, name, feed, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("party", [0, 2])
def test_a_server_is_killed_with_two_runs_under_way(party: int, tmp_path: Path) -> None:
    graphs = ("encoder_model", "decoder_model")  # a model of two graphs, which have little in common
    for seed, graph in enumerate(graphs):
        onnx.save(tiny_model(seed, layers=60), tmp_path / f"{graph}.onnx")
    patient = replace(TIMEOUTS, connect=20.0, heartbeat=20.0)
    with (
        LocalCluster(tmp_path, timeouts=patient) as servers,
        servers.client() as one,
        servers.client() as two,
    ):
        both = [
            Asking(client, tiny_feed(2, 3), graph=graph)
            for client, graph in zip((one, two), graphs, strict=True)
        ]
        assert all(asking.begun.wait(60) for asking in both)
        assert all(asking.is_alive() for asking in both), "both are under way"
        os.kill(servers.pids[party], signal.SIGKILL)
        for asking in both:
            error = asking.ended(30)
            assert isinstance(error, TransportError)
            assert f"server {party} (tcp" in error.message or f"party {party}" in error.message


def crowd(served: Cluster, models: dict[str, onnx.ModelProto], requests: int) -> None:
    """So many requests of eight clients, of all models, at random; every answer is compared."""
    done, wrong, lock = [0] * CLIENTS, list[str](), threading.Lock()
    plain = {name: onnxruntime.InferenceSession(model.SerializeToString()) for name, model in models.items()}

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        clients = {name: served.client(number, name) for name in models}
        try:
            for turn in range(requests // CLIENTS):
                name = ("short", "cached", "short", "long")[int(rng.integers(4)) if turn % 6 else 3]
                if name == "cached":
                    x = rows(4, seed=int(rng.integers(100)))
                    one = clients[name].run({"x": x[:, :3], "past": NO_PAST}, keep=["present"])
                    kept = one.kept["present"]
                    got = clients[name].run({"x": x[:, 3:], "past": kept}, ["y"], release=[kept])
                    whole = plain[name].run(["y"], {"x": x, "past": NO_PAST})[0]
                    error = np.abs(got.outputs["y"] - whole[:, 3:]).max()
                else:
                    feed = tiny_feed(int(rng.integers(1, 3)), int(rng.integers(2, 4)))
                    feed["x"] = rng.normal(0, 1, feed["x"].shape).astype(np.float32)
                    got = clients[name].run(feed, ["y"])
                    error = np.abs(got.outputs["y"] - plain[name].run(["y"], feed)[0]).max()
                with lock:
                    done[number] += 1
                    if not error < ERROR[name]:
                        wrong.append(f"{name} of client {number}: {error}")
        except OnnxpumaError as error:
            with lock:
                wrong.append(f"client {number}: {error}")
        finally:
            for client in clients.values():
                client.close()

    threads = [Thread(target=work, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(230)
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    assert wrong == []
    assert done == [requests // CLIENTS] * CLIENTS


def test_mixed_requests_of_eight_clients(served: Cluster, models: dict[str, onnx.ModelProto]) -> None:
    crowd(served, models, 2 * CLIENTS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sessions", [2, 4])
def test_200_mixed_requests_of_eight_clients(
    sessions: int, folders: dict[str, Path], models: dict[str, onnx.ModelProto]
) -> None:
    made = Cluster(folders, sessions=sessions)
    try:
        crowd(made, models, 200)
    finally:
        made.stop()
