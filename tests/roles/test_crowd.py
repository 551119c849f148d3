"""Many clients, and requests beyond a limit: clients share the servers evenly and renew connections."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError, OnnxpumaError
from onnxpuma.roles.client.client import Client
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.curve import KeyPair, generate
from tests.roles.service import LIMITS, Feed, Service

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def service(hall: Any, model_dir: Path) -> Service:
    return Service(hall, model_dir)


def spoiled(client: Client, spoil: Callable[[wire_pb2.Request, list[Any], list[list[Any]]], None]) -> None:
    request = client._cluster.request

    def send(body: Any, public: Any, private: Any, **options: Any) -> Any:
        spoil(body, public, private)
        return request(body, public, private, **options)

    client._cluster.request = send  # type: ignore[method-assign]


def test_no_plan_is_made_for_shares_that_are_not_there(
    service: Service, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request declares a long sequence, with its public mask, but carries no shares to compute on."""
    planned: list[Any] = []
    length = 5000
    service.works(feed)
    from onnxpuma.roles.request.plans import Plans

    get = Plans.get
    monkeypatch.setattr(Plans, "get", lambda *a, **k: planned.append(a) or get(*a, **k))

    def declare(body: wire_pb2.Request, public: list[Any], private: list[list[Any]]) -> None:
        for entry in body.inputs:
            if entry.name in ("ids", "attention_mask"):
                entry.shape[1] = length
        public[1] = np.ones((2, length), np.int64)

    with service.client(service.bad) as client:
        client.run(feed)
        planned.clear()
        spoiled(client, declare)
        with pytest.raises(InputError, match="was given no shares of 'ids"):
            client.run(feed)
    assert len(planned) == 1, "the client alone has planned"


def test_what_is_beyond_a_limit_is_refused_by_name(hall: Any, model_dir: Path, feed: Feed) -> None:
    global_limits = replace(LIMITS, elements=50)
    service = Service.__new__(Service)
    service.honest = hall.client_keys
    service.config = replace(hall.config, limits=global_limits)
    threads = [hall.start(party, model_dir, config=service.config) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    with service.client() as client:
        long = {**feed, "ids": np.zeros((2, 30), np.int64), "attention_mask": np.ones((2, 30), np.int64)}
        with pytest.raises(InputError, match="has 60 elements, 50 are allowed") as caught:
            client.run(long)
        assert "elements" in caught.value.hint
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_lists_in_a_request_are_bounded(service: Service, feed: Feed) -> None:
    many = [wire_pb2.Held(handle=bytes(16), name=str(number)) for number in range(5000)]

    def lengthen(body: wire_pb2.Request, public: list[Any], private: list[list[Any]]) -> None:
        body.release.extend(many)

    with service.client(service.bad) as client:
        client.model  # noqa: B018
        with pytest.raises(InputError, match="names 5000 values to release, 4096 are allowed"):
            client._cluster.request(wire_pb2.Request(release=many), [], [[], [], []])
        spoiled(client, lengthen)
        with pytest.raises(InputError, match="names 5000 values to release, 4096 are allowed"):
            client.run(feed)
    for change in (
        lambda body: body.outputs.extend(["y"] * 100),
        lambda body: body.outputs.extend(["y"]),
        lambda body: body.inputs.extend(list(body.inputs)),
    ):
        with service.client(service.bad) as client:
            client.model  # noqa: B018
            spoiled(client, lambda body, *_, change=change: change(body))
            with pytest.raises(InputError, match=r"the request (names|gives)"):
                client.run(feed, ["y"])
    service.works(feed)


def test_a_request_may_not_run_for_ever(hall: Any, long_model_dir: Path, feed: Feed) -> None:
    config = replace(hall.config, limits=replace(LIMITS, seconds=0.2))
    threads = [hall.start(party, long_model_dir, config=config) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    refused = pytest.raises(OnnxpumaError, match=r"more than 0\.2 s")
    with Client(config, hall.client_keys) as client, hall.unhurried(), refused:
        client.run(feed)


def crowd(service: Service, model_path: Path, clients: int, seconds: float, keys: list[KeyPair]) -> list[int]:
    """Clients send one request after the other, each with its own inputs; counts the answers of each.

    It checks every answer.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model_path)
    answers, wrong = [0] * clients, []
    deadline = time.monotonic() + seconds

    def ask(number: int) -> None:
        rng = np.random.default_rng(number)
        own = {
            "ids": rng.integers(0, 50, (1, 2)),
            "attention_mask": np.ones((1, 2), np.int64),
            "x": rng.normal(0, 1, (1, 8)).astype(np.float32),
        }
        want = session.run(["y"], own)[0]
        with Client(service.config, keys[number % len(keys)]) as client:
            while time.monotonic() < deadline:
                got = client.run(own, ["y"], timeout=100).outputs["y"]
                if np.abs(got - want).max() > 1e-3:
                    wrong.append(number)
                answers[number] += 1

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 110)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    return answers


def test_clients_share_the_servers_evenly(hall: Any, model_dir: Path, model_path: Path) -> None:
    service = crowded_service(hall, model_dir, 8)
    answers = crowd(service, model_path, 8, 4.0, service.keys)  # type: ignore[attr-defined]
    assert min(answers) >= 1
    assert max(answers) <= 2 * min(answers) + 2, answers


def test_connections_are_renewed_while_requests_run(
    hall: Any, model_dir: Path, model_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "onnxpuma.transport")
    service = Service(hall, model_dir, renew=0.8)
    answers = crowd(service, model_path, 2, 6.0, [service.honest])
    assert min(answers) >= 2
    assert caplog.text.count("a fresh connection to party") >= 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("one_key", [False, True], ids=["keys of their own", "one key"])
def test_64_clients_share_the_servers_evenly(
    hall: Any, model_dir: Path, model_path: Path, one_key: bool
) -> None:
    service = crowded_service(hall, model_dir, 64)
    keys = service.keys[:1] if one_key else service.keys  # type: ignore[attr-defined]
    answers = crowd(service, model_path, 64, 45.0, keys)
    assert min(answers) >= 1
    assert max(answers) <= 2 * min(answers) + 2, answers


def crowded_service(hall: Any, folder: Path, clients: int) -> Service:
    service = Service.__new__(Service)
    service.keys = [generate() for _ in range(clients)]  # type: ignore[attr-defined]
    known = {f"c{i}": pair.public for i, pair in enumerate(service.keys)}  # type: ignore[attr-defined]
    service.config = replace(hall.config, clients=known, timeouts=replace(hall.config.timeouts, connect=60.0))
    threads = [hall.start(party, folder, config=service.config) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    return service
