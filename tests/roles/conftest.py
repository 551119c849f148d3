"""A tiny model, its shares, clusters of three processes, servers in threads; the tests end them all."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.config import ClusterConfig, PartyConfig, TimeoutConfig
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.server import agreement, follower, leader, request_loop, returning, runs
from onnxpuma.roles.server import job as job_module
from onnxpuma.roles.server.orders import Orders
from onnxpuma.roles.server.server import Server
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.signing import SigningKey
from tests.unhurried import FLAG, unhurried

WIDTH, VOCABULARY = 8, 50
TIMEOUTS = TimeoutConfig(connect=10.0, request=30.0, heartbeat=2.0)


def tiny_model(seed: int = 0, layers: int = 1) -> onnx.ModelProto:
    """tanh layers over masked embeddings and reals; three outputs, two of them the client's own."""
    rng = np.random.default_rng(seed)
    weights = {
        "table": rng.normal(0, 1, (VOCABULARY, WIDTH)),
        "kernel": rng.normal(0, 0.5, (WIDTH, WIDTH)),
        "bias": rng.normal(0, 0.5, WIDTH),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["summed"], keepdims=0),
        helper.make_node("Add", ["summed", "x"], ["h0"]),
    ]
    for i in range(layers):
        nodes += [
            helper.make_node("MatMul", [f"h{i}", "kernel"], [f"p{i}"]),
            helper.make_node("Add", [f"p{i}", "bias"], [f"b{i}"]),
            helper.make_node("Tanh", [f"b{i}"], [f"h{i + 1}"]),
        ]
    nodes += [
        helper.make_node("Identity", [f"h{layers}"], ["y"]),
        helper.make_node("ReduceSum", ["weight", "one"], ["length"], keepdims=0),
        helper.make_node("Neg", ["x"], ["mirrored"]),
    ]
    constants = [
        *(numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()),
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH]),
        helper.make_tensor_value_info("length", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("mirrored", TensorProto.FLOAT, ["batch", WIDTH]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tiny_feed(batch: int = 2, sequence: int = 3) -> dict[str, np.ndarray]:
    """Inputs for `tiny_model`."""
    rng = np.random.default_rng(batch)
    mask = np.ones((batch, sequence), np.int64)
    mask[:, -1] = 0
    ids = rng.integers(0, VOCABULARY, (batch, sequence))
    return {"ids": ids, "attention_mask": mask, "x": rng.normal(0, 1, (batch, WIDTH)).astype(np.float32)}


@pytest.fixture(scope="session", name="feed")
def give_feed() -> dict[str, np.ndarray]:
    return tiny_feed()


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(tiny_model(), path)
    return path


@pytest.fixture(scope="session")
def model_dir(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, shared."""
    folder = tmp_path_factory.mktemp("shared")
    share_model(model_path, folder)
    return folder


@pytest.fixture(scope="session")
def long_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 60 rounds: unhurried, a run lasts twenty seconds if no test ends it."""
    folder = tmp_path_factory.mktemp("long")
    onnx.save(tiny_model(layers=20), folder / "long.onnx")
    share_model(folder / "long.onnx", folder)
    return folder


@pytest.fixture(scope="session")
def cluster(model_dir: Path) -> Iterator[LocalCluster]:
    """Three processes that serve the tiny model, for tests that leave them as they are."""
    with LocalCluster(model_dir, timeouts=TIMEOUTS) as servers:
        yield servers


class FrailCluster(LocalCluster):
    """Servers whose runs a test can disturb."""

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Within, a run lasts longer than anything that a test does to it."""
        flag = self.folder / "empty" / FLAG
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()


@pytest.fixture(scope="session")
def frail_cluster(long_model_dir: Path) -> Iterator[FrailCluster]:
    """Three processes that serve the long model; for tests that disturb and then restore them."""
    with FrailCluster(long_model_dir, timeouts=TIMEOUTS) as servers:
        yield servers


class ServerThread(Thread):
    """A server in this process; `error` ended it."""

    def __init__(
        self,
        party: int,
        config: ClusterConfig,
        keys: KeyPair,
        folder: Path,
        signing: SigningKey | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.server = Server(party, config, keys, folder, signing=signing)
        self.ready, self.stopping = Event(), Event()
        self.orders = Orders(stop=self.stopping)
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.server.serve(ready=self.ready.set, orders=self.orders)
        except BaseException as error:
            self.error = error

    def ended(self, seconds: float = 15.0) -> BaseException | None:
        self.join(seconds)
        assert not self.is_alive(), "the server still runs"
        return self.error


class Hall:
    """A cluster.toml for one test, and servers in threads that stop when the test ends."""

    def __init__(self) -> None:
        self.keys = [generate() for _ in range(3)]
        self.client_keys = generate()
        ports = free_ports(6)
        rows = [
            PartyConfig(f"p{i}", "127.0.0.1", ports[i], ports[3 + i], self.keys[i].public, "127.0.0.1")
            for i in range(3)
        ]
        self.config = ClusterConfig(
            (rows[0], rows[1], rows[2]), {"client": self.client_keys.public}, replace(TIMEOUTS, connect=2.0)
        )
        self.started: list[ServerThread] = []
        self.pauses = Event()

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Within, a run lasts longer than anything that a test does to it (servers of the fixture `hall`)."""
        self.pauses.set()
        try:
            yield
        finally:
            self.pauses.clear()

    def start(self, party: int, folder: Path, **changes: Any) -> ServerThread:
        config = changes.get("config", self.config)
        keys = changes.get("keys", self.keys[party])
        thread = ServerThread(party, config, keys, folder, changes.get("signing"))
        self.started.append(thread)
        return thread

    def stop(self) -> None:
        for thread in self.started:
            thread.stopping.set()
        for thread in self.started:
            thread.join(10)
            assert not thread.is_alive()


class Threads(Hall):
    """The interface of LocalCluster for clients, in threads of this process: it starts ten times faster.

    Its timeouts are long: on a busy machine no server passes for dead.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model_dir = folder
        self.config = replace(self.config, timeouts=replace(TIMEOUTS, connect=20.0, heartbeat=20.0))
        for party in range(3):
            self.start(party, folder)
        assert all(thread.ready.wait(30) for thread in self.started)

    def client(self) -> Client:
        return Client(self.config, self.client_keys, SharedModel.read(self.model_dir))

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture(scope="session")
def in_threads() -> type[Threads]:
    return Threads


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.setattr(
        request_loop, "IDLE_SECONDS", 0.1
    )  # how long a server takes to notice that it must stop
    made = Hall()
    monkeypatch.setattr(runs, "compute", unhurried(runs.compute, made.pauses.is_set))
    yield made
    made.stop()


def free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [int(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@pytest.fixture(name="until")
def give_until() -> Callable[..., None]:
    def until(holds: Callable[[], Any], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.02)

    return until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock that agreement and jobs read; a test moves it on."""
    now = SimpleNamespace(time=1000.0)
    for module in (agreement, follower, leader, job_module, returning):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.time))
    return now
