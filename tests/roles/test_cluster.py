"""End to end: three servers in processes of their own, and clients that use them well or badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime
import pytest

import onnxpuma
from onnxpuma.errors import (
    AuthenticationError,
    ConfigError,
    InputError,
    ModelError,
    PlanError,
)
from onnxpuma.observe import Standing
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.session import InferenceSession
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.curve import generate
from onnxpuma.transport.link import as_bytes

Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def expected(model_path: Path, feed: Feed) -> Feed:
    session = onnxruntime.InferenceSession(model_path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feed), strict=True))


def test_outputs_are_those_of_onnxruntime(cluster: LocalCluster, feed: Feed, expected: Feed) -> None:
    steps: list[tuple[int, int, str]] = []
    with cluster.client() as client:
        outcome = client.run(feed, progress=lambda *news: steps.append(news))
    assert list(outcome.outputs) == ["y", "length", "mirrored"]
    for name, value in outcome.outputs.items():
        assert value.dtype == expected[name].dtype
        assert value.shape == expected[name].shape
        assert np.abs(value - expected[name]).max() < 1e-3
    assert [report.party for report in outcome.reports] == [0, 1, 2]
    assert all(report.bytes_sent > 0 and report.rounds > 0 for report in outcome.reports)
    assert all("Tanh" in report.operators for report in outcome.reports)
    assert 0 < outcome.reports[0].seconds <= outcome.seconds
    assert steps
    assert all(0 <= done <= of and label for done, of, label in steps)


def test_a_client_sees_what_a_run_has_sent(cluster: LocalCluster, feed: Feed) -> None:
    seen: list[Standing] = []
    with cluster.client() as client:
        outcome = client.run(feed, watch=seen.append)
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    assert [now.bytes_sent for now in seen] == sorted(now.bytes_sent for now in seen)
    assert all(0 <= now.bytes_sent <= outcome.reports[0].bytes_sent for now in seen)
    assert all(0 < now.seconds <= outcome.seconds for now in seen)


def test_a_client_without_a_blueprint_fetches_it(
    cluster: LocalCluster, model_dir: Path, feed: Feed, expected: Feed
) -> None:
    with Client(cluster.config, cluster.client_keys) as client:
        assert client.blueprint.digest == Blueprint.read(model_dir).digest
        outcome = client.run(feed, ["mirrored", "y"])
    assert list(outcome.outputs) == ["mirrored", "y"]
    assert np.abs(outcome.outputs["y"] - expected["y"]).max() < 1e-3


def test_other_shapes_and_the_same_ones_again(cluster: LocalCluster, model_path: Path) -> None:
    session = onnxruntime.InferenceSession(model_path)
    rng = np.random.default_rng(1)
    with cluster.client() as client:
        for batch, sequence in ((1, 1), (3, 5), (1, 1)):
            feed = {
                "ids": rng.integers(0, 50, (batch, sequence)),
                "attention_mask": rng.integers(0, 2, (batch, sequence)),
                "x": rng.normal(0, 1, (batch, 8)).astype(np.float32),
            }
            got = client.run(feed, ["y"]).outputs["y"]
            assert np.abs(got - session.run(["y"], feed)[0]).max() < 1e-3


def test_two_clients_at_once(cluster: LocalCluster, feed: Feed, expected: Feed) -> None:
    outcomes: list[Any] = []

    def ask() -> None:
        with cluster.client() as client:
            outcomes.extend(client.run(feed) for _ in range(3))

    threads = [Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 6
    for outcome in outcomes:
        assert np.abs(outcome.outputs["y"] - expected["y"]).max() < 1e-3


def test_a_bad_feed_is_refused_before_anything_is_sent(cluster: LocalCluster, feed: Feed) -> None:
    with cluster.client() as client:
        for wrong in ({"x": feed["x"]}, {**feed, "x": feed["x"][:1]}, {**feed, "ids": feed["ids"] + 50}):
            with pytest.raises(InputError):
                client.run(wrong)
        assert client._cluster._servers[0].watch.losses == 0
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_an_unknown_client_is_refused(cluster: LocalCluster, feed: Feed) -> None:
    stranger = generate()
    with Client(cluster.config, stranger) as client, pytest.raises(AuthenticationError) as caught:
        client.run(feed)
    assert stranger.public in caught.value.message
    assert "cluster.toml" in caught.value.hint


def test_a_client_with_another_model_is_refused(
    cluster: LocalCluster, long_model_dir: Path, feed: Feed
) -> None:
    blueprint = Blueprint.read(long_model_dir)
    client = Client(cluster.config, cluster.client_keys, blueprint)
    with client, pytest.raises(PlanError, match="is not the one served here"):
        client.run(feed)


def ask_badly(
    client: Client, feed: Feed, spoil: Callable[[wire_pb2.Request, list[Any], list[list[Any]]], None]
) -> None:
    """Send a request that `spoil` changed after the client made it."""
    request = client._cluster.request

    def spoiled(body: Any, public: Any, private: Any, **options: Any) -> Any:
        spoil(body, public, private)
        return request(body, public, private, **options)

    client._cluster.request = spoiled  # type: ignore[method-assign]
    client.run(feed)


def test_another_plan_is_refused(cluster: LocalCluster, feed: Feed, expected: Feed) -> None:
    def spoil(body: Any, public: list[Any], private: Any) -> None:
        public[0] = bytes(32)

    with cluster.client() as client, pytest.raises(PlanError, match="plans this request differently"):
        ask_badly(client, feed, spoil)
    with cluster.client() as client:
        assert np.abs(client.run(feed).outputs["y"] - expected["y"]).max() < 1e-3


def test_another_version_is_refused(cluster: LocalCluster, feed: Feed) -> None:
    def spoil(body: wire_pb2.Request, public: Any, private: Any) -> None:
        body.version = "0.0.1"

    with cluster.client() as client, pytest.raises(PlanError, match=r"requests of onnxpuma 0\.0\.1"):
        ask_badly(client, feed, spoil)


@pytest.mark.parametrize("party", [0, 1, 2])
def test_shares_that_do_not_fit_are_refused(
    party: int, cluster: LocalCluster, feed: Feed, expected: Feed
) -> None:
    def spoil(body: Any, public: Any, private: list[list[Any]]) -> None:
        private[party][-1] = bytes(as_bytes(private[party][-1]))[:-1]

    with cluster.client() as client, pytest.raises(InputError, match=f"server {party} was given"):
        ask_badly(client, feed, spoil)
    with cluster.client() as client:
        assert np.abs(client.run(feed).outputs["y"] - expected["y"]).max() < 1e-3


def test_shapes_that_do_not_fit_are_refused_by_the_servers(cluster: LocalCluster, feed: Feed) -> None:
    def spoil(body: wire_pb2.Request, public: Any, private: Any) -> None:
        body.inputs[2].shape[1] = 1 << 40

    with cluster.client() as client, pytest.raises(InputError, match="'x' has shape"):
        ask_badly(client, feed, spoil)


def test_status_tells_what_is_served(cluster: LocalCluster, model_dir: Path, until: Any) -> None:
    digest = bytes.fromhex(Blueprint.read(model_dir).digest)
    with cluster.client() as client:
        for party, status in enumerate(client.status()):
            assert isinstance(status, wire_pb2.Status)
            assert (status.party, status.model_digest) == (party, digest)
            assert status.version == onnxpuma.__version__
            assert status.state in ("idle", "running")


def test_no_log_holds_a_value(cluster: LocalCluster, feed: Feed) -> None:
    marked = {**feed, "x": np.full((2, 8), 12345.678, np.float32), "ids": np.full((2, 3), 43)}
    with cluster.client() as client:
        client.run(marked)
        with pytest.raises(InputError):
            client.run({**marked, "x": marked["x"][:1]})
    logs = [path.read_text() for path in cluster.folder.glob("*.log")]
    assert len(logs) == 3
    for log in logs:
        assert " is done after " in log
        assert "12345" not in log


def test_a_session_has_onnxruntimes_face(model_path: Path, cluster: LocalCluster, feed: Feed) -> None:
    theirs = onnxruntime.InferenceSession(model_path)
    with InferenceSession(cluster=cluster.config_path) as ours:
        for mine, other in zip(ours.get_inputs(), theirs.get_inputs(), strict=True):
            assert (mine.name, mine.type, mine.shape) == (other.name, other.type, other.shape)
        for mine, other in zip(ours.get_outputs(), theirs.get_outputs(), strict=True):
            assert (mine.name, mine.type) == (other.name, other.type)
        for names in (None, ["length", "y"], ["y", "y"], ["length"]):
            for got, want in zip(ours.run(names, feed), theirs.run(names, feed), strict=True):
                assert got.dtype == want.dtype
                assert np.abs(got - want).max() < 1e-3
        assert ours.outcome is not None
        assert len(ours.outcome.reports) == 3
        with pytest.raises(InputError, match="not a mapping"):
            ours.run(None, [1.0])  # type: ignore[arg-type]


def test_a_session_starts_its_own_servers(model_path: Path, feed: Feed, expected: Feed) -> None:
    with InferenceSession(model_path) as session:
        assert session._local is not None
        folder, pids = session._local.folder, session._local.pids
        assert np.abs(session.run(["y"], feed)[0] - expected["y"]).max() < 1e-3
    assert not folder.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_session_needs_a_model_or_a_cluster(tmp_path: Path, hall: Any) -> None:
    with pytest.raises(ConfigError, match="neither a model nor a cluster"):
        InferenceSession()
    with pytest.raises(ConfigError, match="key is missing"):
        InferenceSession(cluster=hall.config)
    with pytest.raises(ModelError):
        InferenceSession(tmp_path / "missing.onnx")


def test_a_server_that_dies_at_start_says_why(model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model_dir.iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[:-8] if file.suffix == ".safetensors" else content)
    with pytest.raises(PlanError, match=r"party [12]: .*words.safetensors is damaged"):
        LocalCluster(folder)


def test_local_servers_die_with_their_starter(model_dir: Path) -> None:
    script = f"""
        import sys, time
        from onnxpuma.roles.local.cluster import LocalCluster
        cluster = LocalCluster({str(model_dir)!r})
        print(cluster.folder, *cluster.pids, flush=True)
        time.sleep(60)
    """
    root = str(Path(onnxpuma.__file__).parent.parent)
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert starter.stdout is not None
    folder, *pids = starter.stdout.readline().split()
    starter.send_signal(signal.SIGKILL)
    starter.wait(5)
    starter.stdout.close()
    deadline = time.monotonic() + 10
    while any(running(int(pid)) for pid in pids):
        assert time.monotonic() < deadline, "a server outlived its starter"
        time.sleep(0.05)
    assert len(pids) == 3
    assert not Path(folder).exists()


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
