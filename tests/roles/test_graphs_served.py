"""Models of several graphs at work: three servers, clients that name a graph, values between graphs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from onnxpuma.errors import InputError, PlanError
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.session import InferenceSession

Writer = Callable[..., Path]
NAMES = ["encoder_model", "decoder_model", "decoder_with_past_model"]


@pytest.fixture(scope="module")
def shared(graphs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    share_model(graphs_folder, folder)
    return folder


@pytest.fixture(scope="module")
def servers(shared: Path, in_threads: Any) -> Iterator[Any]:
    with in_threads(shared) as cluster:
        yield cluster


def expected(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def feeds() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 30, (2, 3))
    return {
        "encoder_model": {"input_ids": ids},
        "decoder_model": {
            "input_ids": ids,
            "encoder_hidden_states": rng.normal(size=(2, 4, 8)).astype(np.float32),
        },
        "decoder_with_past_model": {
            "input_ids": ids,
            "past": rng.normal(size=(2, 5, 8)).astype(np.float32),
        },
    }


@pytest.mark.parametrize("graph", NAMES)
def test_each_graph_runs(graph: str, servers: Any, graphs_folder: Path) -> None:
    feed = feeds()[graph]
    want = expected(graphs_folder / f"{graph}.onnx", feed)
    with servers.client() as client:
        outputs = client.run(feed, graph=graph).outputs
    assert list(outputs) == list(want)
    for name, value in want.items():
        assert np.abs(outputs[name] - value).max() < 1e-3


def test_a_client_without_the_model_fetches_all_graphs(servers: Any, graphs_folder: Path) -> None:
    feed = feeds()["decoder_model"]
    with Client(servers.config, servers.client_keys) as client:
        assert list(client.graphs) == NAMES
        assert client.model.digest == SharedModel.read(servers.model_dir).digest
        logits = client.run(feed, ["logits"], graph="decoder_model").outputs["logits"]
    want = expected(graphs_folder / "decoder_model.onnx", feed)["logits"]
    assert np.abs(logits - want).max() < 1e-3


def test_a_graph_must_be_named(servers: Any) -> None:
    with servers.client() as client:
        with pytest.raises(InputError, match="several graphs") as caught:
            client.run(feeds()["encoder_model"])
        assert all(name in caught.value.hint for name in NAMES)
        with pytest.raises(InputError, match="no graph 'decoder'"):
            client.run(feeds()["encoder_model"], graph="decoder")


def test_what_one_graph_keeps_another_takes(servers: Any, graphs_folder: Path) -> None:
    """One text in three requests; no value between the graphs is ever opened."""
    ids = feeds()["encoder_model"]["input_ids"]
    with servers.client() as client:
        encoded = client.run({"input_ids": ids}, graph=NAMES[0], keep=["last_hidden_state"]).kept
        step = {"input_ids": ids[:, :1], "encoder_hidden_states": encoded["last_hidden_state"]}
        present = client.run(step, graph=NAMES[1], keep=["present"]).kept["present"]
        last = client.run({"input_ids": ids[:, 1:2], "past": present}, ["logits"], graph=NAMES[2])
    hidden = expected(graphs_folder / "encoder_model.onnx", {"input_ids": ids})["last_hidden_state"]
    first = {"input_ids": ids[:, :1], "encoder_hidden_states": hidden}
    past = expected(graphs_folder / "decoder_model.onnx", first)["present"]
    want = expected(graphs_folder / "decoder_with_past_model.onnx", {"input_ids": ids[:, 1:2], "past": past})
    assert np.abs(last.outputs["logits"] - want["logits"]).max() < 1e-3


def test_a_server_needs_its_own_part_alone(shared: Path, hall: Any, until: Any, tmp_path: Path) -> None:
    for party in range(3):
        folder = Path(shutil.copytree(shared, tmp_path / f"p{party}"))
        for other in {0, 1, 2} - {party}:
            (folder / f"party{other}.keys").unlink()
        if party == 0:
            (folder / "words.safetensors").unlink()
        hall.start(party, folder)
    until(lambda: all(thread.ready.is_set() for thread in hall.started), 30)
    feed = feeds()["encoder_model"]
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed, graph="encoder_model").outputs["last_hidden_state"].shape == (2, 3, 8)


def test_servers_of_other_graphs_do_not_meet(
    shared: Path, graphs_folder: Path, hall: Any, tmp_path: Path
) -> None:
    """A model with one more graph is another model, even though the two common graphs agree."""
    fewer = Path(shutil.copytree(graphs_folder, tmp_path / "fewer"))
    (fewer / "decoder_with_past_model.onnx").unlink()
    share_model(fewer, tmp_path / "shared")
    for party in range(3):
        hall.start(party, tmp_path / "shared" if party == 1 else shared)
    error = hall.started[1].ended(30)
    assert isinstance(error, PlanError)
    assert "another model" in error.message


def test_a_session_runs_one_graph(servers: Any, graphs_folder: Path) -> None:
    feed = feeds()["decoder_with_past_model"]
    chosen = {"key": servers.client_keys, "graph": "decoder_with_past_model"}
    with InferenceSession(cluster=servers.config, **chosen) as session:
        assert [entry.name for entry in session.get_inputs()] == list(feed)
        assert [entry.name for entry in session.get_outputs()] == ["logits", "present"]
        (logits,) = session.run(["logits"], feed)
    want = expected(graphs_folder / "decoder_with_past_model.onnx", feed)["logits"]
    assert np.abs(logits - want).max() < 1e-3


def test_a_merged_decoder_is_served_as_two_graphs(
    write_graphs: Writer, graphs_folder: Path, tmp_path: Path, in_threads: Any
) -> None:
    folder = write_graphs(tmp_path, "encoder_model", "decoder_model_merged")
    model = share_model(folder, tmp_path / "shared")
    assert list(model.graphs) == NAMES
    assert list(model.graphs["decoder_with_past_model"].graph.inputs)[:2] == ["input_ids", "past"]
    assert "past" not in model.graphs["decoder_model"].inputs
    assert len(model.arrays) == 6
    with in_threads(tmp_path / "shared") as servers, servers.client() as client:
        for graph in NAMES[1:]:
            feed = feeds()[graph]
            want = expected(graphs_folder / f"{graph}.onnx", feed)["logits"]
            got = client.run(feed, ["logits"], graph=graph).outputs["logits"]
            assert np.abs(got - want).max() < 1e-3
