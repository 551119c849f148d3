"""The benchmark of many clients: every answer is right, none is lost, and memory stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import throughput

from onnxpuma.config import LimitConfig
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.shipped import shipped_model
from onnxpuma.tasks.sampling import Sampling

LLAMA = Path(__file__).parent / "llama" / "model.onnx"


def test_several_clients_at_once_are_answered_together() -> None:
    path = shipped_model("digits").path
    with LocalCluster(path) as servers, servers.client() as first:
        found = throughput.measure(servers, throughput.pictures(path), 6, 60.0, first, requests=18)
    told = found.as_dict()
    assert (told["wrong"], told["lost"], told["hung"]) == (0, 0, 0), told["errors"]
    assert told["requests"] >= 18
    assert max(found.together) > 1
    assert [len(mark) for mark in told["memory"]] == [3, 3, 3]
    assert min(told["processor_ms"]) > 0
    throughput.show([told])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_5000_requests_of_64_clients_lose_nothing_and_take_no_more_memory() -> None:
    path = shipped_model("digits").path
    session = throughput.pictures(path)
    with LocalCluster(path, limits=LimitConfig(connections=1000)) as servers, servers.client() as first:
        throughput.measure(servers, session, 64, 600.0, first, requests=500)  # all caches are full now
        found = throughput.measure(servers, session, 64, 3000.0, first, requests=5000)
    assert found.good, found.as_dict()
    assert len(found.latencies) >= 5000


def greedy(number: int) -> None:
    return None


def drawn(number: int) -> Sampling:
    return Sampling(temperature=0.8 + number / 100, top_k=20)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("steering", [greedy, drawn])
def test_sixteen_texts_take_little_longer_than_one(steering: Callable[[int], Sampling | None]) -> None:
    session = throughput.texts(LLAMA, 8, steering)
    with LocalCluster(LLAMA) as servers, servers.client() as first:
        one, many = (throughput.measure(servers, session, count, 40.0, first).as_dict() for count in (1, 16))
    assert (many["wrong"], many["lost"]) == (0, 0), many["errors"]
    assert many["rounds"] <= 1.5 * one["rounds"]
    assert many["a_second"] >= 6 * one["a_second"]
