"""What an operator tells a running server: cluster.toml read again, and leaving in order."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.config import ClusterConfig, KeptConfig, LimitConfig, NetworkConfig
from onnxpuma.errors import ConfigError, StoppingError
from onnxpuma.roles.server import departure as departure_module
from onnxpuma.roles.server.departure import Departure
from onnxpuma.roles.server.limits import bounds_of, client_names
from onnxpuma.roles.server.orders import Orders
from onnxpuma.transport import wire_pb2


def told(found: ClusterConfig | ConfigError) -> Orders:
    def read() -> ClusterConfig:
        if isinstance(found, ConfigError):
            raise found
        return found

    orders = Orders(read=read)
    orders.reload.set()
    return orders


def test_clients_and_limits_are_taken_and_the_rest_is_named(
    hall: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old = replace(hall.config, clients={"ward": "a" * 40, "gone": "b" * 40})
    new = replace(
        old,
        clients={"ward": "c" * 40, "come": "d" * 40},
        limits=LimitConfig(waiting=7),
        kept=KeptConfig(megabytes=5),
        network=NetworkConfig(latency_ms=40),
    )
    orders = told(new)
    got = orders.reloaded(old)
    assert got == replace(new, network=old.network)
    assert client_names(got) == {"c" * 40: "ward", "d" * 40: "come"}
    assert bounds_of(got).connections == new.limits.connections
    said = caplog.text
    assert "client come may ask; client ward may ask; client gone may not; [kept]; [limits]" in said
    assert "a restart is needed for what changed under [network]" in said
    assert orders.reloaded(got) is None, "an order is obeyed once"


def test_a_broken_cluster_toml_changes_nothing(hall: Any, caplog: pytest.LogCaptureFixture) -> None:
    orders = told(ConfigError("cluster.toml: limits.waitin is not a known key", "did you mean waiting?"))
    assert orders.reloaded(hall.config) is None
    assert "the old cluster.toml stays in force: cluster.toml: limits.waitin" in caplog.text
    assert not orders.reload.is_set()


class Waiting:
    """An agreement in which two requests wait."""

    def __init__(self) -> None:
        self.link = SimpleNamespace(party=1, peers=frozenset({0, 2}))
        self.jobs = {b"one": "first", b"two": "second"}
        self.told: list[tuple[int, Any]] = []
        self.failed: list[tuple[str, Any]] = []

    def tell(self, peer: int, message: Any) -> bool:
        self.told.append((peer, message))
        return True

    def fail(self, job: str, error: Any) -> None:
        self.jobs = {key: other for key, other in self.jobs.items() if other != job}
        self.failed.append((job, error))


def test_a_leaving_server_refuses_what_waits_and_tells_its_peers_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SimpleNamespace(time=50.0)
    monkeypatch.setattr(departure_module, "time", SimpleNamespace(monotonic=lambda: now.time))
    orders, agreement = Orders(), Waiting()
    departure = Departure(orders, agreement, 30.0)  # type: ignore[arg-type]
    departure.attend()
    assert not agreement.failed
    assert not departure.begun
    orders.leave.set()
    departure.attend()
    assert [job for job, _ in agreement.failed] == ["first", "second"]
    assert all(
        isinstance(e, StoppingError) and "server 1 is stopping" in e.message for _, e in agreement.failed
    )
    agreement.jobs = {b"three": "late"}
    departure.attend()
    assert agreement.failed[-1][0] == "late"
    assert [peer for peer, _ in agreement.told] == [0, 2]
    assert all(
        isinstance(m, wire_pb2.Refuse) and m.failure.error == "StoppingError" for _, m in agreement.told
    )
    assert not departure.overdue
    now.time += 31
    assert departure.overdue


def test_an_order_to_stop_leaves_no_time() -> None:
    orders = Orders()
    departure = Departure(orders, Waiting(), 30.0)  # type: ignore[arg-type]
    orders.stop.set()
    assert departure.overdue
