"""infer: the client's outputs, and every input that it cannot send."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from onnxpuma.commands.arrays import named
from onnxpuma.errors import InputError
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model

BERT = Path(__file__).resolve().parents[1] / "graph" / "data" / "bert-torchscript-17.onnx"


@pytest.fixture
def ask(cli, servers: LocalCluster, tmp_path: Path):
    """Run infer on x.npz with a key that the servers know."""

    def call(*more: object, inputs: Path | None = None):
        place = inputs or tmp_path / "x.npz"
        cluster = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
        return cli("infer", *cluster, "--inputs", place, "--out", tmp_path / "y.npz", *more)

    return call


def test_the_client_gets_the_prediction(ask, model: Path, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    ended = ask()
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"measurements": patient})
    assert ended.status == 0
    assert "logits" in ended.out
    with np.load(tmp_path / "y.npz") as arrays:
        np.testing.assert_allclose(arrays["logits"], want, atol=5e-3)


def test_what_was_opened_is_its_owner_s_alone_to_read(ask, patient: np.ndarray, tmp_path: Path):
    """Whatever the mode of an existing file, and never through a link that somebody planted."""
    np.savez(tmp_path / "x.npz", measurements=patient)
    result, victim = tmp_path / "y.npz", tmp_path / "victim"
    mask = os.umask(0)
    try:
        assert ask().status == 0
        assert stat.S_IMODE(result.stat().st_mode) == 0o600
        result.chmod(0o666)
        assert ask().status == 0
        assert stat.S_IMODE(result.stat().st_mode) == 0o600
        victim.write_text("mine")
        result.unlink()
        result.symlink_to(victim)
        assert ask().status == 0
    finally:
        os.umask(mask)
    assert not result.is_symlink()
    assert stat.S_IMODE(result.stat().st_mode) == 0o600
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["victim", "x.npz", "y.npz"]


def test_a_device_is_no_place_for_a_result(ask, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    assert ask("--out", "/dev/null").status == 6
    assert not Path("/dev/null").is_file()


def test_an_input_that_the_owner_opened_needs_the_client_s_word(
    cli, model: Path, patient: np.ndarray, tmp_path: Path
):
    share_model(model, tmp_path / "shared", public_inputs=["measurements"])
    np.savez(tmp_path / "x.npz", measurements=patient)
    with LocalCluster(tmp_path / "shared") as open_servers:
        asked = (
            "infer",
            "--cluster",
            open_servers.config_path,
            "--key",
            open_servers.folder / "client.secret",
        )
        asked = (*asked, "--inputs", tmp_path / "x.npz", "--out", tmp_path / "y.npz")
        ended = cli(*asked)
        assert ended.status == 4
        assert "owner made the input 'measurements' public" in ended.message
        assert "--public-input measurements" in ended.err
        assert not (tmp_path / "y.npz").exists()
        assert cli(*asked, "--public-input", "measurement").status == 4
        assert cli(*asked, "--public-input", "measurements").status == 0
    assert (tmp_path / "y.npz").exists()


def test_outputs_are_opened_by_name(ask, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    assert ask("--output", "logits").status == 0
    with np.load(tmp_path / "y.npz") as arrays:
        assert list(arrays) == ["logits"]
    ended = ask("--output", "logit")
    assert ended.status == 4
    assert "no output 'logit'" in ended.message


def test_json_says_what_it_took(ask, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    found = json.loads(ask("--json").out)
    assert set(found) == {"out", "seconds", "setup_seconds", "bytes_sent", "rounds"}
    assert len(found["bytes_sent"]) == 3


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("measurement", lambda x: x, "no input 'measurement'"),
        ("measurements", lambda x: x[:, :29], "has shape (1, 29)"),
        ("measurements", lambda x: x[0], "has shape (30,)"),
        ("measurements", lambda x: x.astype(str), "is of type"),
        ("measurements", lambda x: x * np.nan, "NaN or infinity"),
        ("measurements", lambda x: x * np.inf, "NaN or infinity"),
        ("measurements", lambda x: x * 0 + 1e13, "beyond"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(ask, patient, tmp_path: Path, name, change, said):
    np.savez(tmp_path / "x.npz", **{name: change(patient)})
    ended = ask()
    assert ended.status == 4
    assert said in ended.message
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 cut short"], ids=["empty", "text", "cut"]
)
def test_a_file_that_is_no_npz_is_refused(ask, tmp_path: Path, content: bytes):
    (tmp_path / "x.npz").write_bytes(content)
    ended = ask()
    assert ended.status == 4
    assert "x.npz" in ended.message


def test_python_objects_are_not_read(ask, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=np.array([{"a": 1}], dtype=object))
    assert ask().status == 4


def test_a_missing_file_is_refused(ask, tmp_path: Path):
    ended = ask()
    assert ended.status == 4
    assert "there is no file" in ended.message


def test_a_place_that_cannot_be_written_is_refused_before_the_run(ask, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    ended = ask("--out", tmp_path / "nowhere" / "y.npz")
    assert ended.status == 6
    assert "cannot write" in ended.message


def test_a_key_that_is_not_on_the_list_is_refused(cli, ask, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    cli("keygen", tmp_path / "stranger")
    ended = ask("--key", tmp_path / "stranger.secret")
    assert ended.status == 7
    assert "refuses this client's public key" in ended.message


def test_files_that_are_missing_or_no_key_are_refused(ask, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    assert ask("--key", tmp_path / "none.secret").status == 6
    assert ask("--cluster", tmp_path / "none.toml").status == 6
    (tmp_path / "odd.secret").write_text("not a key")
    (tmp_path / "odd.secret").chmod(0o600)
    assert "no secret key" in ask("--key", tmp_path / "odd.secret").message


def test_no_servers_is_an_error_within_the_time_allowed(ask, servers, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    text = servers.config_path.read_text()
    port = servers.config.parties[1].client_port
    (tmp_path / "off.toml").write_text(
        text.replace(f"client_port = {port}", "client_port = 9").replace("connect = 30", "connect = 1")
    )
    ended = ask("--cluster", tmp_path / "off.toml")
    assert ended.status == 7
    assert "no answer from server 1" in ended.message


def test_a_graph_of_several_is_named(cli, graphs_folder: Path, tmp_path: Path):
    ids = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "x.npz", input_ids=ids)
    with LocalCluster(graphs_folder) as several:
        given = ("--cluster", several.config_path, "--key", several.folder / "client.secret")
        asked = ("infer", *given, "--inputs", tmp_path / "x.npz", "--out", tmp_path / "y.npz")
        assert cli(*asked, "--graph", "encoder_model").status == 0
        ended = cli(*asked)
    session = onnxruntime.InferenceSession(str(graphs_folder / "encoder_model.onnx"))
    (want,) = session.run(None, {"input_ids": ids})
    with np.load(tmp_path / "y.npz") as arrays:
        np.testing.assert_allclose(arrays["last_hidden_state"], want, atol=1e-3)
    assert ended.status == 4
    assert "several graphs" in ended.message
    assert "encoder_model, decoder_model" in ended.err


def test_one_array_is_enough_for_a_model_of_one_input_and_small_outputs_are_printed(
    cli, servers: LocalCluster, model: Path, patient: np.ndarray, tmp_path: Path
):
    np.save(tmp_path / "x.npy", patient)
    asked = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
    ended = cli("infer", *asked, "--inputs", tmp_path / "x.npy")
    assert ended.status == 0
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"measurements": patient})
    shown = [float(n) for n in re.findall(r"-?[0-9]+[.][0-9]+", ended.out.split("logits")[2])[:2]]
    np.testing.assert_allclose(shown, want[0], atol=5e-3)
    assert "rounds" in ended.out
    found = json.loads(cli("infer", *asked, "--inputs", tmp_path / "x.npy", "--json").out)
    np.testing.assert_allclose(found["outputs"]["logits"], want, atol=5e-3)
    assert found["out"] is None


def test_one_array_does_not_feed_two_inputs(tmp_path: Path):
    blueprint = prepare(BERT)[0]
    with pytest.raises(InputError, match="the model takes input_ids, attention_mask"):
        named(np.zeros((1, 4), np.int64), blueprint, tmp_path / "x.npy")
