"""validate: the report against onnxruntime, on this machine and at servers that are there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FIELDS = {"seconds", "setup_seconds", "bytes_sent", "rounds", "peak_rss_bytes", "outputs", "operators"}


def test_json_has_these_fields_and_small_errors(cli, model: Path, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    ended = cli("validate", model, "--inputs", tmp_path / "x.npz", "--json")
    found = json.loads(ended.out)
    assert ended.status == 0
    assert set(found) == FIELDS
    assert len(found["bytes_sent"]) == len(found["peak_rss_bytes"]) == 3
    assert min(found["bytes_sent"]) > 100_000
    assert min(found["peak_rss_bytes"]) > 10_000_000
    logits = found["outputs"]["logits"]
    assert set(logits) == {"max_abs_error", "mean_abs_error", "reference_max_abs", "argmax_agreement"}
    assert logits["mean_abs_error"] <= logits["max_abs_error"] < 5e-3
    assert logits["argmax_agreement"] == 1
    priced = json.loads(cli("inspect", model, "--json").out)
    assert found["rounds"] >= priced["rounds"]
    assert sum(found["bytes_sent"]) >= priced["bytes"]


def test_servers_that_are_there_are_asked(cli, model: Path, servers, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    cluster = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
    ended = cli("validate", model, *cluster, "--inputs", tmp_path / "x.npz")
    assert ended.status == 0
    for text in ("measurements 1x30", "logits", "100 %", "LayerNormalization", "rounds", "peak memory"):
        assert text in ended.out


def test_servers_of_another_model_are_an_error(cli, model: Path, servers):
    cluster = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
    ended = cli("validate", model.parents[1] / "digits" / "model.onnx", *cluster)
    assert ended.status == 5
    assert "is not the one served here" in ended.message


def test_wrong_inputs_are_refused_before_servers_start(cli, model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("onnxpuma.roles.local.LocalCluster", None)
    np.savez(tmp_path / "x.npz", measurements=np.zeros((1, 7), np.float32))
    assert cli("validate", model, "--inputs", tmp_path / "x.npz").status == 4
    assert cli("validate", model, "--dim", "nothing=1").status == 6


def test_an_unsupported_model_is_refused_before_servers_start(cli, unsupported: Path, monkeypatch):
    monkeypatch.setattr("onnxpuma.roles.local.LocalCluster", None)
    ended = cli("validate", unsupported)
    assert ended.status == 3
    for name in ("determinant (Det", "foreign (my.operators::Mine", "again (Det"):
        assert name in ended.message


def test_options_that_contradict_each_other_are_refused(cli, model: Path, servers, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=np.zeros((1, 30), np.float32))
    assert "belong together" in cli("validate", model, "--cluster", servers.config_path).message
    ended = cli("validate", model, "--inputs", tmp_path / "x.npz", "--dim", "batch=1")
    assert "inputs that are drawn" in ended.message
