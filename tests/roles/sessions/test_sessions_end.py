"""Of two runs at a time one ends early, or a server does: the other goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import onnx
import pytest

from onnxpuma.errors import OnnxpumaError, TransportError
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.server import runs
from tests.roles.conftest import TIMEOUTS, tiny_feed, tiny_model
from tests.roles.sessions.conftest import Asking, Cluster, Held, right, running

pytestmark = pytest.mark.timeout(240)


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
