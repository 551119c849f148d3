"""Requests of several clients in one run: each has its own answer, and one bad request spoils no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.errors import InputError, OnnxpumaError, PlanError
from onnxpuma.roles.client import asking as asking_module
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.message import deal_inputs
from onnxpuma.roles.server.leader import Leader
from onnxpuma.roles.server.reception import Reception
from onnxpuma.transport.curve import generate
from onnxpuma.transport.link import as_bytes
from onnxpuma.transport.signing import SigningKey
from tests.roles.conftest import TIMEOUTS, Hall, tiny_feed
from tests.roles.test_kept import NO_PAST, cached_model, in_the_clear, rows

pytestmark = pytest.mark.timeout(180)


class Cluster(Hall):
    """Three servers in threads that know two clients, and sign what they do."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.second = generate()
        clients = {"first": self.client_keys.public, "second": self.second.public}
        timeouts = replace(TIMEOUTS, connect=20.0, heartbeat=20.0, arrival=20.0)
        signing = [SigningKey.generate() for _ in range(3)]
        rows = [
            replace(row, signing_key=key.public)
            for row, key in zip(self.config.parties, signing, strict=True)
        ]
        self.config = replace(self.config, parties=tuple(rows), clients=clients, timeouts=timeouts)
        threads = [self.start(party, folder, signing=signing[party]) for party in range(3)]
        assert all(thread.ready.wait(60) for thread in threads)

    def clients(self, count: int) -> list[Client]:
        """Clients with connections of their own, the first of one key and the others of another."""
        keys = [self.client_keys, *[self.second] * (count - 1)]
        return [Client(self.config, key) for key in keys]


@pytest.fixture(scope="module")
def served(model_dir: Path) -> Iterator[Cluster]:
    made = Cluster(model_dir)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cached_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cached")
    onnx.save(cached_model(), folder / "cached.onnx")
    share_model(folder / "cached.onnx", folder)
    return folder


@pytest.fixture
def waits_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From now on a run begins when so many requests are agreed upon."""

    def wait(count: int) -> None:
        monkeypatch.setattr(Leader, "_gathers", lambda self, agreed: len(agreed) < count)

    return wait


Asked = Callable[[Client], Outcome]


def at_once(clients: Sequence[Client], asked: Sequence[Asked]) -> list[Outcome | OnnxpumaError]:
    """What each of these clients gets when all ask at the same time."""
    found: list[Any] = [None] * len(clients)

    def ask(place: int) -> None:
        try:
            found[place] = asked[place](clients[place])
        except OnnxpumaError as error:
            found[place] = error

    threads = [threading.Thread(target=ask, args=(place,), daemon=True) for place in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def feeds_of(count: int) -> list[dict[str, np.ndarray]]:
    """Requests of different batches and lengths."""
    return [tiny_feed(1 + place % 3, 3 + place % 2) for place in range(count)]


def asking(feed: dict[str, np.ndarray]) -> Asked:
    return lambda client: client.run(feed)


def test_requests_that_wait_are_one_run(served: Cluster, waits_for: Callable[[int], None]) -> None:
    feeds = feeds_of(6)
    with ExitStack() as stack:
        clients = [stack.enter_context(client) for client in served.clients(6)]
        alone = [clients[0].run(feed) for feed in feeds]
        waits_for(6)
        together = at_once(clients, [asking(feed) for feed in feeds])
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, Outcome)
        for name in ("y", "length", "mirrored"):
            assert np.abs(one.outputs[name] - other.outputs[name]).max() < 1e-3
        assert [report.requests for report in other.reports] == [6] * 3
        assert other.receipt is not None
        jobs = other.receipt.servers[0].statement["jobs"]
        assert len(jobs) == 6, "each receipt names all requests of its run, and the client finds its own"
        assert [report.requests for report in one.reports] == [1] * 3
    sent = sum(other.reports[0].bytes_sent for other in together)  # type: ignore[union-attr]
    assert sent < 1.5 * sum(one.reports[0].bytes_sent for one in alone), "each is told of its own part"
    rounds = {other.reports[0].rounds for other in together}  # type: ignore[union-attr]
    assert len(rounds) == 1
    assert rounds.pop() <= 1.5 * max(one.reports[0].rounds for one in alone)


def spoiled(monkeypatch: pytest.MonkeyPatch, values: np.ndarray) -> None:
    """The client that shares these values gives two servers different shares."""

    def deal_otherwise(plan: Any, given: Any) -> Any:
        private = deal_inputs(plan, given)
        if given["x"].shape == values.shape and np.array_equal(given["x"], values):
            changed = bytearray(as_bytes(private[1][-1]))
            changed[0] ^= 1
            private[1][-1] = changed
        return private

    monkeypatch.setattr(asking_module, "deal_inputs", deal_otherwise)


def other_plan(client: Client, feed: dict[str, np.ndarray]) -> Outcome:
    """Ask with the digest of another plan."""
    request = client._cluster.request

    def send(body: Any, public: Any, private: Any, **options: Any) -> Any:
        return request(body, [bytes(32), *public[1:]], private, **options)

    client._cluster.request = send  # type: ignore[method-assign]
    try:
        return client.run(feed)
    finally:
        client._cluster.request = request  # type: ignore[method-assign]


@pytest.mark.parametrize("bad", [0, 2])
def test_a_bad_request_is_refused_and_the_others_run(
    bad: int, served: Cluster, waits_for: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differing shares and another plan, in the run that they would have shared; one of them may lead it."""
    feeds = [tiny_feed(3 + place, 3) for place in range(4)]
    with ExitStack() as stack:
        clients = [stack.enter_context(client) for client in served.clients(4)]
        right = [clients[0].run(feed).outputs["y"] for feed in feeds]
        spoiled(monkeypatch, feeds[bad]["x"])
        asked = [asking(feed) for feed in feeds]
        asked[1] = lambda client: other_plan(client, feeds[1])
        waits_for(4)
        found = at_once(clients, asked)
        waits_for(1)
        monkeypatch.setattr(asking_module, "deal_inputs", deal_inputs)
        again = clients[bad].run(feeds[bad])
    assert isinstance(found[bad], InputError)
    assert "different shares" in str(found[bad])
    assert isinstance(found[1], PlanError)
    for place in {0, 2, 3} - {bad}:
        outcome = found[place]
        assert isinstance(outcome, Outcome)
        assert np.abs(outcome.outputs["y"] - right[place]).max() < 1e-3
        assert outcome.reports[0].requests == 2
    assert np.abs(again.outputs["y"] - right[bad]).max() < 1e-3


def test_kept_values_stay_apart_and_caches_may_differ_in_length(
    cached_dir: Path, waits_for: Callable[[int], None]
) -> None:
    made = Cluster(cached_dir)
    texts = [rows(3 + place, seed=place) for place in range(3)]
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(client) for client in made.clients(3)]

            def begin(x: np.ndarray) -> Asked:
                return lambda client: client.run({"x": x[:, :-1], "past": NO_PAST}, keep=["present"])

            waits_for(3)
            begun = at_once(clients, [begin(x) for x in texts])
            held = [one.kept["present"] for one in begun]  # type: ignore[union-attr]
            assert [kept.shape[1] for kept in held] == [2, 3, 4]

            def go_on(x: np.ndarray, kept: Any) -> Asked:
                return lambda client: client.run({"x": x[:, -1:], "past": kept}, ["y"], keep=["present"])

            ended = at_once(clients, [go_on(x, kept) for x, kept in zip(texts, held, strict=True)])
            waits_for(1)
            with pytest.raises(InputError, match="do not hold"):
                clients[0].run({"x": texts[1][:, -1:], "past": held[1]}, ["y"])
    finally:
        made.stop()
    for x, one in zip(texts, ended, strict=True):
        assert isinstance(one, Outcome)
        assert one.reports[0].requests == 3
        assert one.kept["present"].shape == x.shape
        assert np.abs(one.outputs["y"] - in_the_clear(cached_dir, x)[:, -1:]).max() < 1e-3


def test_what_does_not_fit_into_memory_runs_later(
    served: Cluster, waits_for: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = feeds_of(3)
    with ExitStack() as stack:
        clients = [stack.enter_context(client) for client in served.clients(3)]
        alone = [clients[0].run(feed) for feed in feeds]
        begun = threading.Event()

        def gathers(self: Leader, agreed: Sequence[Any]) -> bool:
            if len(agreed) == 3:
                begun.set()
            return not begun.is_set()

        monkeypatch.setattr(Leader, "_gathers", gathers)
        budget = Reception._budget
        monkeypatch.setattr(Reception, "memory", property(lambda self: 1), raising=False)
        monkeypatch.setattr(Reception, "_budget", lambda self: replace(budget(self), bytes=1 << 40))
        together = at_once(clients, [asking(feed) for feed in feeds])
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, Outcome), other
        assert other.reports[0].requests == 1
        assert np.abs(one.outputs["y"] - other.outputs["y"]).max() < 1e-3


def test_a_client_that_leaves_ends_its_own_request_alone(
    served: Cluster, waits_for: Callable[[int], None]
) -> None:
    feeds = feeds_of(2)
    with ExitStack() as stack:
        clients = [stack.enter_context(client) for client in served.clients(2)]
        right = clients[0].run(feeds[0]).outputs["y"]
        clients[1].run(feeds[1])
        waits_for(2)

        def leave(client: Client) -> Outcome:
            def gone(done: int, steps: int, label: str) -> None:
                if steps > 1:  # it does not wait any more
                    raise InputError("enough")

            return client.run(feeds[1], progress=gone)

        found = at_once(clients, [asking(feeds[0]), leave])
    assert isinstance(found[0], Outcome)
    assert np.abs(found[0].outputs["y"] - right).max() < 1e-3
    assert isinstance(found[1], InputError)
