"""Options for noise on outputs: what they print, what they refuse, and what `infer` tells of the budget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.local.cluster import LocalCluster

GAUSSIAN = ("--noise", "logits=gaussian", "--answers", "3")


def test_share_and_inspect_print_the_noise_and_its_loss(cli, model: Path, tmp_path: Path):
    out = tmp_path / "shared"
    options = ("--clip", "-4:4", "--epsilon", "2", "--delta", "1e-6", "--yes")
    ended = cli("share", model, "--out", out, *GAUSSIAN, *options)
    assert ended.status == 0
    for printed in (ended.out, cli("inspect", out).out):
        said = " ".join(printed.split())
        assert "Noise gaussian, drawn by each server" in said
        assert "one answer: rho 0.08815, epsilon 2 at delta 1e-06" in said
        assert "3 answers, which each client may get: rho 0.2645, epsilon 3.655 at delta 1e-06" in said
    assert "no client is told" in ended.err
    blueprint = Blueprint.read(out)
    assert not blueprint.checked
    told = json.loads(cli("inspect", out, "--json").out)["noise"]
    assert told["loss"] == pytest.approx(0.08815, rel=1e-3)
    assert told["outputs"]["logits"]["size"] == 2


def test_a_client_runs_into_its_budget(cli, model: Path, patient: np.ndarray, tmp_path: Path):
    shared, inputs = tmp_path / "shared", tmp_path / "x.npz"
    options = ("--sensitivity", "1", "--rho", "0.5", "--label", "--yes")
    assert cli("share", model, "--out", shared, *GAUSSIAN, *options).status == 0
    np.savez(inputs, measurements=patient.repeat(2, axis=0))
    with LocalCluster(shared) as servers:
        reach = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
        first = cli("infer", "--inputs", inputs, "--out", tmp_path / "y.npz", *reach)
        assert first.status == 0
        assert "of your budget 1 are left" in first.out
        with np.load(tmp_path / "y.npz") as found:
            assert found["logits.label"].shape == (2,)
        second = cli("infer", "--inputs", inputs, "--out", tmp_path / "z.npz", *reach)
        assert second.status == 10
        assert "2 answers would be too many" in second.message
        checked = cli("validate", model, *reach)
        assert checked.status == 6
        assert "add noise to their answers" in checked.message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--epsilon", "1"), "no effect without --noise"),
        (("--noise", "logits"), "is not PATTERN=KIND"),
        (
            ("--noise", "logits=uniform", "--answers", "1", "--rho", "1", "--clip", "-1:1"),
            "no noise 'uniform'",
        ),
        (("--noise", "logits=gaussian", "--rho", "1", "--clip", "-1:1"), "a limit of answers"),
        ((*GAUSSIAN, "--clip", "-1:1"), "the privacy loss of one answer"),
        ((*GAUSSIAN, "--clip", "-1:1", "--rho", "1", "--epsilon", "1"), "stated once"),
        ((*GAUSSIAN, "--clip", "-1:1", "--epsilon", "1"), "nothing without delta"),
        ((*GAUSSIAN, "--rho", "1"), "needs a sensitivity"),
        ((*GAUSSIAN, "--rho", "1", "--clip", "1:-1"), "cannot be clipped"),
        ((*GAUSSIAN, "--rho", "1", "--clip", "wide"), "is not LOW:HIGH"),
        ((*GAUSSIAN, "--rho", "-1", "--sensitivity", "1"), "rho -1.0 makes no sense"),
        ((*GAUSSIAN, "--rho", "1", "--sensitivity", "nan"), "sensitivity nan makes no sense"),
        ((*GAUSSIAN, "--rho", "1e-30", "--sensitivity", "1"), "more than a word holds"),
        (
            ("--noise", "x=laplace", "--answers", "1", "--epsilon", "1", "--clip", "-1:1"),
            "no output matches 'x'",
        ),
        (
            ("--noise", "logits=laplace", "--answers", "1", "--rho", "1", "--clip", "-1:1"),
            "has no rho and no delta",
        ),
        ((*GAUSSIAN, "--rho", "1", "--clip", "-1:1", "--keep-only", "logits"), "values that servers keep"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    cli, model: Path, tmp_path: Path, options: tuple[str, ...], said: str
):
    ended = cli("share", model, "--out", tmp_path / "shared", "--yes", *options)
    assert ended.status == 6
    assert said in ended.message
    assert not (tmp_path / "shared").exists()
