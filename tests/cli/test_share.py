"""share: the owner's files, and the refusals before any file is written."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.commands.samples import find_samples
from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.shared.model import SharedModel


def test_writes_four_private_files_and_two_public_ones(cli, model: Path, tmp_path: Path):
    ended = cli("share", model, "--out", tmp_path / "shared")
    assert ended.status == 0
    names = sorted(path.name for path in (tmp_path / "shared").iterdir())
    private = ["party0.keys", "party1.keys", "party2.keys", "words.safetensors"]
    assert names == sorted([*private, "policy.json", "skeleton.onnx"])
    for name in names:
        assert name in ended.out
    for name in private:
        assert stat.S_IMODE((tmp_path / "shared" / name).stat().st_mode) == 0o600
    assert re.search(r"words\.safetensors .* servers 1 and 2, never server 0", ended.out)
    told = " ".join(ended.err.split())
    assert "each server skeleton.onnx and policy.json" in told
    assert "server 0 party0.keys; never the words" in told
    assert "server 1 party1.keys, words.safetensors server 2 party2.keys, words.safetensors" in told
    assert Blueprint.read(tmp_path / "shared").digest[:16] in ended.out


def test_a_folder_that_holds_a_model_is_not_taken_unasked(cli, model: Path, tmp_path: Path):
    out = tmp_path / "shared"
    assert cli("share", model, "--out", out).status == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    ended = cli("share", model, "--out", out)
    assert ended.status == 6
    assert "holds a shared model" in ended.message
    assert "--replace" in ended.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert cli("share", model, "--out", out, "--replace").status == 0
    for name in ("words.safetensors", "party1.keys"):
        assert (out / name).read_bytes() != before[name]


def test_damaged_public_files_are_refused_and_no_fault_of_ours(cli, model: Path, tmp_path: Path):
    out = tmp_path / "shared"
    cli("share", model, "--out", out)
    skeleton = bytearray((out / "skeleton.onnx").read_bytes())
    skeleton[len(skeleton) // 2] ^= 1
    (out / "skeleton.onnx").write_bytes(skeleton)
    ended = cli("inspect", out)
    assert ended.status == 5
    assert "does not match its digest" in ended.message
    (out / "policy.json").write_text("{}")
    assert cli("inspect", out).status == 5


def test_patterns_decide_what_is_secret(cli, model: Path, tmp_path: Path):
    cli("share", model, "--out", tmp_path, "--public", "*", "--secret", "*bias*", "--public-input", "meas*")
    blueprint = Blueprint.read(tmp_path)
    assert blueprint.weights
    assert all("bias" in name for name in blueprint.weights)
    assert blueprint.public_inputs == ("measurements",)


def test_outputs_that_are_hidden_or_kept_only(cli, model: Path, tmp_path: Path):
    stories = model.parents[1] / "tales" / "model.onnx"
    assert cli("share", stories, "--out", tmp_path / "hidden", "--hide", "logits").status == 0
    hidden = Blueprint.read(tmp_path / "hidden")
    derived = ["next_token", "next_tokens", "sampled_token", "shifted_token", "penalised_token"]
    assert (list(hidden.outputs), hidden.hidden) == (derived, ("logits",))
    assert cli("share", stories, "--out", tmp_path / "closed", "--keep-only", "log*").status == 0
    assert Blueprint.read(tmp_path / "closed").closed == ("logits",)
    listed = cli("inspect", tmp_path / "hidden").out
    assert "hidden" in listed
    assert "derived" in listed
    assert "kept, not opened" in cli("inspect", tmp_path / "closed").out
    for option, said in (("--hide", "leaves no output"), ("--keep-only", "no output could be opened")):
        assert said in cli("share", stories, "--out", tmp_path / "none", option, "*").message
    assert not (tmp_path / "none").exists()


def test_share_lists_what_goes_on_from_what_is_kept(cli, tmp_path: Path):
    ends = {
        name: helper.make_tensor_value_info(name, 1, [1, 4])
        for name in ("x", "h0", "past", "y", "present", "hn")
    }
    nodes = [
        helper.make_node("Add", ["x", "past"], ["present"]),
        helper.make_node("Mul", ["x", "h0"], ["hn"]),
        helper.make_node("Add", ["present", "hn"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", list(ends.values())[:3], list(ends.values())[3:])
    path = tmp_path / "steps.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    kept = ("--keep-only", "present", "--keep-only", "hn")
    ended = cli("share", path, "--out", tmp_path / "one", *kept)
    assert "kept and not opened: present, hn" in ended.out
    assert "take what is kept of these, and nothing else: past" in ended.out
    assert "No input goes on from hn" in ended.err
    assert cli("inspect", tmp_path / "one").out.count("kept values only") == 1
    ended = cli("share", path, "--out", tmp_path / "two", *kept, "--keep-only", "h0")
    assert "nothing else: h0, past" in ended.out
    assert "No input goes on" not in ended.err


def test_a_pattern_that_matches_nothing_is_refused(cli, model: Path, tmp_path: Path):
    ended = cli("share", model, "--out", tmp_path / "shared", "--secret", "no_such*")
    assert ended.status == 6
    assert "no_such*" in ended.message
    assert not (tmp_path / "shared").exists()


def test_a_damaged_model_is_refused(cli, model: Path, tmp_path: Path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:-1000])
    ended = cli("share", cut, "--out", tmp_path / "shared")
    assert ended.status == 3
    assert not (tmp_path / "shared").exists()


def test_a_folder_that_cannot_be_written_is_refused(cli, model: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    ended = cli("share", model, "--out", tmp_path / "file" / "shared")
    assert ended.status == 6
    assert "cannot write" in ended.message


def test_says_when_a_model_cannot_run(cli, unsupported: Path, tmp_path: Path):
    ended = cli("share", unsupported, "--out", tmp_path / "shared")
    assert ended.status == 3
    for name in ("determinant (Det", "foreign (my.operators::Mine", "again (Det"):
        assert name in ended.message
    assert not (tmp_path / "shared").exists()


def test_a_folder_of_graphs_is_one_model(cli, graphs_folder: Path, tmp_path: Path):
    ended = cli("share", graphs_folder, "--out", tmp_path / "shared")
    assert ended.status == 0
    shared = SharedModel.read(tmp_path / "shared")
    assert list(shared.graphs) == ["encoder_model", "decoder_model", "decoder_with_past_model"]
    assert shared.digest[:16] in ended.out
    for path in (tmp_path / "shared").iterdir():
        assert path.name in ended.out
    assert "6 arrays of weights are secret" in ended.out
    assert "encoder_model: secret inputs: input_ids" in ended.out
    assert "each server model.json and the folders" in " ".join(ended.err.split())


def test_a_file_that_is_left_out_is_named(cli, model: Path, tmp_path: Path):
    for name in ("model", "model_quantized"):
        shutil.copy(model, tmp_path / f"{name}.onnx")
    ended = cli("share", tmp_path, "--out", tmp_path / "shared")
    assert ended.status == 0
    assert "model_quantized.onnx is left out" in ended.err
    assert SharedModel.read(tmp_path / "shared").single


def test_a_folder_without_a_model_is_refused(cli, model: Path, tmp_path: Path):
    assert "no ONNX file" in cli("share", tmp_path, "--out", tmp_path / "shared").message
    for name in ("text", "vision"):
        shutil.copy(model, tmp_path / f"{name}.onnx")
    ended = cli("share", tmp_path, "--out", tmp_path / "shared")
    assert ended.status == 3
    assert "which of text.onnx, vision.onnx" in ended.message
    assert not (tmp_path / "shared").exists()


# -- calibration -----------------------------------------------------------------------------


def test_calibration_puts_ranges_into_the_policy(cli, model: Path, patient: np.ndarray, tmp_path: Path):
    """Samples come from one file of several, or from a folder of files."""
    several = np.concatenate([patient, 3 * patient])[:, None]
    np.savez(tmp_path / "several.npz", measurements=several)
    (tmp_path / "folder").mkdir()
    for number, sample in enumerate(several):
        np.savez(tmp_path / "folder" / f"{number}.npz", measurements=sample)
    found = {}
    for name in ("several.npz", "folder"):
        ended = cli("share", model, "--out", tmp_path / "shared", "--calibrate", tmp_path / name, "--replace")
        assert ended.status == 0
        assert "in policy.json, for everybody to see" in ended.out
        blueprint = Blueprint.read(tmp_path / "shared")
        found[name] = (blueprint.ranges, blueprint.digest)
    assert found["several.npz"] == found["folder"]
    ranges = found["folder"][0]
    assert {key for node in ranges.values() for key in node} == {"argument", "norm", "spread"}
    cli("share", model, "--out", tmp_path / "plain")
    assert Blueprint.read(tmp_path / "plain").ranges == {}
    assert Blueprint.read(tmp_path / "plain").digest != found["folder"][1]


def test_samples_that_do_not_fit_are_refused(cli, model: Path, patient: np.ndarray, tmp_path: Path):
    """No sample, a missing input, a wrong shape, NaN, another model's inputs: no file is written."""
    bad = patient.copy()
    bad[0, 3] = np.nan
    for name, arrays, message in (
        ("empty", {}, "no value for input"),
        ("shape", {"measurements": patient[:, :7]}, "shape"),
        ("numbers", {"measurements": bad}, "NaN"),
        ("other", {"pixels": patient}, "no input 'pixels'"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        ended = cli("share", model, "--out", tmp_path / "shared", "--calibrate", tmp_path / f"{name}.npz")
        assert ended.status == 4
        assert message in ended.message
    ended = cli("share", model, "--out", tmp_path / "shared", "--calibrate", tmp_path / "nowhere")
    assert ended.status == 6
    assert "no .npz file" in ended.message
    assert not (tmp_path / "shared").exists()


def test_samples_of_several_graphs(tmp_path: Path):
    for name in ("a.npz", "c.npz"):
        np.savez(tmp_path / name, x=np.zeros(3))
    (tmp_path / "b").mkdir()
    np.savez(tmp_path / "b" / "1.npz", x=np.zeros(3))
    with pytest.raises(ConfigError, match=r"c\.npz is named after no graph"):
        find_samples(tmp_path, ["a", "b"])
    found = find_samples(tmp_path, ["a", "b", "c", "d"])
    assert {name: [path.name for path in paths] for name, paths in found.items()} == {
        "a": ["a.npz"],
        "b": ["1.npz"],
        "c": ["c.npz"],
    }
    with pytest.raises(ConfigError, match="not a folder"):
        find_samples(tmp_path / "a.npz", ["a", "b"])


def test_sizes_of_the_example(cli, model: Path, tmp_path: Path):
    assert cli("share", model, "--out", tmp_path / "shared", "--dim", "batch=2").status == 0
    ended = cli("share", model, "--out", tmp_path / "other", "--dim", "words=2")
    assert ended.status == 6
    assert "no dimension 'words'" in ended.message
    assert not (tmp_path / "other").exists()
