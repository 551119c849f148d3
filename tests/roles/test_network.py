"""Servers and clients plan for one network: that of the servers, whatever a client's cluster.toml says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from onnxpuma.config import NetworkConfig
from onnxpuma.errors import PlanError
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.request.network import described, heard, network_of, told
from onnxpuma.transport import wire_pb2

FAR = NetworkConfig(latency_ms=40.0, bandwidth_mbps=10_000.0)


def test_the_usual_network_is_that_of_a_file_without_one() -> None:
    assert network_of(NetworkConfig()) == USUAL
    assert heard(told(network_of(FAR)), "a server") == network_of(FAR) == Network(1e10, 0.04)
    assert described(network_of(FAR)) == "40 ms and 10000 Mbit/s"


@pytest.mark.parametrize(
    "message", [{}, {"latency": 0.1}, {"latency": -1, "bandwidth": 1}, {"bandwidth": float("nan")}]
)
def test_a_message_that_names_no_network_is_refused(message: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="server 1 names no network"):
        heard(wire_pb2.Network(**message), "server 1")


def test_a_client_plans_for_the_network_of_the_servers(
    hall: Any, model_dir: Path, model_path: Path, feed: Any
) -> None:
    (expected,) = onnxruntime.InferenceSession(model_path).run(["y"], feed)
    far = replace(hall.config, network=FAR)
    threads = [hall.start(party, model_dir, config=far) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    with Client(hall.config, hall.client_keys) as client:  # its file is older
        outcome = client.run(feed)
        assert np.abs(outcome.outputs["y"] - expected).max() < 1e-3
        assert client.network == client.plan(feed).network == network_of(FAR)
        # As if the servers had been started again for another network since the last request.
        client._network = USUAL
        client._plans.clear()
        plans: list[Any] = []
        outcome = client.run(feed, dealt=lambda plan, _: plans.append(plan.network))
        assert np.abs(outcome.outputs["y"] - expected).max() < 1e-3
        assert plans == [USUAL, network_of(FAR)]


def test_a_server_of_another_network_does_not_start(
    hall: Any, model_dir: Path, feed: Any, until: Any
) -> None:
    """It names both networks; the two others wait, and serve once it is corrected."""
    good = [hall.start(party, model_dir) for party in range(2)]
    error = hall.start(2, model_dir, config=replace(hall.config, network=FAR)).ended()
    assert isinstance(error, PlanError)
    assert "0.1 ms and 1000 Mbit/s" in error.message
    assert "party 2 for one of 40 ms and 10000 Mbit/s" in error.message
    assert not any(thread.ready.is_set() for thread in good)
    last = hall.start(2, model_dir)
    assert all(thread.ready.wait(60) for thread in (*good, last))
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)
