"""Clients that give two servers different shares are refused before the first step, and named in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import InputError, OnnxpumaError, PlanError
from onnxpuma.mpc.protocols.dpf import share_ids
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.client import asking as asking_module
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.message import deal_inputs
from onnxpuma.roles.server import opening
from onnxpuma.roles.shared.weights import load_weights
from onnxpuma.transport.curve import generate
from onnxpuma.transport.link import Buffer, as_bytes
from tests.roles.dealing import Private, place_of


def hidden_layer() -> onnx.ModelProto:
    """y = x W + rows of a table: its output is linear in the weights, so an attack is easy to read off."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(0, 1, (4, 4)), "table": rng.normal(0, 1, (9, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["xw", "rows"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hidden",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def hidden_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hidden")
    onnx.save(hidden_layer(), folder / "hidden.onnx")
    share_model(folder / "hidden.onnx", folder)
    return folder


@pytest.fixture
def served(hall: Any, hidden_dir: Path) -> Iterator[Client]:
    patient(hall)
    threads = [hall.start(party, hidden_dir) for party in range(3)]
    assert all(thread.ready.wait(30) for thread in threads)
    with Client(hall.config, hall.client_keys) as client:
        yield client


def patient(hall: Any) -> None:
    """Long timeouts, since no test here is about dead servers: on a busy machine none passes for dead."""
    hall.config = replace(hall.config, timeouts=replace(hall.config.timeouts, connect=20.0, heartbeat=20.0))


ASKED = {"x": np.zeros((1, 4), np.float32), "ids": np.zeros(1, np.int64)}


def cheating(monkeypatch: pytest.MonkeyPatch, change: Callable[[Plan, Private], None]) -> None:
    """From now on the client changes the shares that it deals."""

    def deal_otherwise(plan: Plan, values: Any) -> list[list[Buffer]]:
        private: Private = [
            [bytearray(as_bytes(b)) for b in buffers] for buffers in deal_inputs(plan, values)
        ]
        change(plan, private)
        return private

    monkeypatch.setattr(asking_module, "deal_inputs", deal_otherwise)


def test_parts_of_two_clients_make_no_request(
    hall: Any, hidden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one id, a client asks server 0 and another client, with shares of its own, asks the others."""
    second = generate()
    patient(hall)
    hall.config = replace(hall.config, clients={**hall.config.clients, "second": second.public})
    threads = [hall.start(party, hidden_dir) for party in range(3)]
    assert all(thread.ready.wait(30) for thread in threads)
    blueprint = Blueprint.read(hidden_dir)
    with (
        Client(hall.config, hall.client_keys, blueprint) as one,
        Client(hall.config, second, blueprint) as two,
    ):
        for client in (one, two):
            _ = client.network  # before messages are held back
        monkeypatch.setattr("onnxpuma.transport.cluster.os.urandom", lambda count: b"r" * count)
        ended: list[OnnxpumaError] = []
        asking = [
            threading.Thread(target=ask_some, args=(client, servers, ended), daemon=True)
            for client, servers in ((one, (0,)), (two, (1, 2)))
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(25)
    assert len(ended) == 2, "neither is answered, and neither waits"
    assert any(isinstance(error, PlanError) for error in ended)
    assert any("received a different request from party 0" in error.message for error in ended)


def ask_some(client: Client, servers: Sequence[int], ended: list[OnnxpumaError]) -> None:
    """Send a request to these servers only."""
    push = client._cluster._push
    client._cluster._push = lambda server, frames: server.number not in servers or push(server, frames)  # type: ignore[method-assign]
    try:
        client.run(ASKED)
    except OnnxpumaError as error:
        ended.append(error)


def one_unit_more(plan: Plan, private: Private) -> None:
    """Server 2's component 2 of x is one unit above server 1's, so y contains w_2 + w_0 of one row."""
    words = np.frombuffer(private[2][place_of(plan, "x", False)], np.uint64)
    words[0] += np.uint64(1 << 18)


def another_row(plan: Plan, private: Private) -> None:
    """Component 0 of the table is read at row 5, the two others at row 0."""
    for party, keys in enumerate(share_ids(np.array([5]), 9)):
        if party in (0, 2):
            mine, place = (
                (keys.own, place_of(plan, "ids", False))
                if party == 0
                else (
                    keys.following,
                    place_of(plan, "ids", True),
                )
            )
            private[party][place : place + 3] = [
                bytearray(as_bytes(p)) for p in (mine.seed, mine.corrections, mine.leaves)
            ]


@pytest.mark.parametrize("attack", [one_unit_more, another_row])
def test_a_client_that_gives_two_servers_different_shares_learns_nothing(
    attack: Callable[[Plan, Private], None],
    served: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., None],
) -> None:
    def refusals() -> list[str]:
        return [r.getMessage() for r in caplog.records if "different shares" in r.getMessage()]

    caplog.set_level(logging.INFO, "onnxpuma.roles")
    honest = served.run(ASKED).outputs["y"]
    caplog.clear()
    steps: list[int] = []
    with monkeypatch.context() as patch:
        cheating(patch, attack)
        with pytest.raises(InputError, match="different shares"):
            served.run(ASKED, progress=lambda done, *_: steps.append(done))
    # a server that finds no difference may take the first step before it hears of one: it is local
    assert max(steps, default=0) <= 1, "a step beyond the first was computed"
    until(refusals)  # a server tells the client before it logs
    assert all("of client failed" in text for text in refusals()), "who did it is in the log"
    assert np.abs(served.run(ASKED).outputs["y"] - honest).max() < 1e-4, "the servers serve on"


@pytest.mark.parametrize("attack", [one_unit_more, another_row])
def test_what_the_attack_reads_where_nothing_is_compared(
    attack: Callable[[Plan, Private], None], served: Client, hidden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: the answer is a sum of components, and one server's file gives the rest."""
    monkeypatch.setattr(opening, "component_code", lambda *_: bytes(32))
    monkeypatch.setattr(opening.Sketch, "agrees", lambda *_: True)
    honest = served.run(ASKED).outputs["y"].astype(np.float64)
    cheating(monkeypatch, attack)
    got = served.run(ASKED).outputs["y"].astype(np.float64) - honest
    weights = load_weights(hidden_dir, 0)["model"]
    if attack is one_unit_more:
        # server 1's file has w_1 and w_2; the answer is compared with the sum that server 2 holds
        held = load_weights(hidden_dir, 2)["model"]["w"].total[0]
        wanted = held.view(np.int64) / 2.0**18
        modulus = 2.0**28
    else:
        table = weights["table"].first.astype(np.uint32)
        wanted = (table[5] - table[0]).view(np.int32) / 2.0**18
        modulus = 2.0**14
    apart = (got - wanted + modulus / 2) % modulus - modulus / 2
    assert np.abs(wanted).max() > 50, "components are random words"
    assert np.abs(apart / modulus).max() < 1e-5
