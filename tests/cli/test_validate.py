"""validate: the comparison with onnxruntime, on this machine and at running servers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxpuma.check.validation import check_tolerance, validation
from onnxpuma.commands.validate import _references
from onnxpuma.errors import AccuracyError
from onnxpuma.observe import RunReport
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare

REPORTS = [RunReport()] * 3
FIELDS = {
    "seconds",
    "setup_seconds",
    "bytes_sent",
    "rounds",
    "peak_rss_bytes",
    "waited",
    "outputs",
    "operators",
    "file",
    "network",
    "ways",
    "streamed",
    "phases",
    "reliable",
}


def test_json_has_these_fields_and_small_errors(cli, model: Path, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    ended = cli("validate", model, "--inputs", tmp_path / "x.npz", "--json")
    found = json.loads(ended.out)
    assert ended.status == 0
    assert set(found) == FIELDS
    assert len(found["bytes_sent"]) == len(found["peak_rss_bytes"]) == 3
    assert min(found["bytes_sent"]) > 100_000
    assert min(found["peak_rss_bytes"]) > 10_000_000
    assert len(found["waited"]) == 3
    assert 0 < min(found["waited"]) <= max(found["waited"]) < found["seconds"]
    assert found["file"] == {}
    assert {name for each in found["streamed"] for name, value in each.items() if value} == set()
    assert found["phases"][0] == {
        "reading": 0, "key_stream": 0, "products": 0, "stalled": 0, "rounds": found["waited"][0]
    }  # fmt: skip
    assert found["network"] == {"bandwidth": 1e9, "latency": 1e-4}
    logits = found["outputs"]["logits"]
    assert set(logits) == {"max_abs_error", "mean_abs_error", "reference_max_abs", "argmax_agreement"}
    assert logits["mean_abs_error"] <= logits["max_abs_error"] < 5e-3
    assert logits["argmax_agreement"] == 1
    priced = json.loads(cli("inspect", model, "--json").out)
    assert found["rounds"] >= priced["rounds"]
    assert sum(found["bytes_sent"]) >= priced["bytes"]
    assert 0.5 < priced["memory"]["whole"] / max(found["peak_rss_bytes"]) < 2


def test_a_run_is_planned_for_the_network_given(cli, model: Path):
    far = "--latency", "40ms", "--bandwidth", "10Gbit"
    found = json.loads(cli("validate", model, *far, "--json").out)
    priced = json.loads(cli("inspect", model, *far, "--json").out)
    assert found["network"] == priced["network"] == {"bandwidth": 1e10, "latency": 0.04}
    chosen: dict[str, dict[str, int]] = {}
    for choice in priced["choices"]:
        taken = {way["name"]: way["steps"] for way in choice["ways"] if way["steps"]}
        chosen.setdefault(choice["operator"], {}).update(taken)
    assert found["ways"] == chosen
    assert sum(found["bytes_sent"]) >= priced["bytes"]


def test_servers_elsewhere_have_a_network_of_their_own(cli, model: Path):
    ended = cli("validate", model, "--cluster", "c", "--key", "k", "--latency", "40ms")
    assert "for servers on this machine" in ended.message


def _quantised(path: Path) -> Path:
    """y = x w in halves; x passes through integers of 8 bits."""
    weight = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["single"], to=onnx.TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["single", "scale", "zero"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["coarse"]),
        helper.make_node("Cast", ["coarse"], ["half"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("MatMul", ["half", "w"], ["y"]),
    ]
    arrays = {"w": weight, "scale": np.float32(0.05), "zero": np.int8(0)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, ["n", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, ["n", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_file_that_rounds_is_compared_with_the_graph_that_runs(cli, tmp_path: Path):
    model = _quantised(tmp_path / "model.onnx")
    shown = cli("validate", model).out
    (row,) = (line.split() for line in shown.splitlines() if line.startswith("y "))
    assert float(row[1]) < 1e-3 < float(row[-1]) < 0.2, "the largest error, and the difference from the file"
    assert "from the file" in shown
    assert "another precision" in shown


def test_a_file_that_onnxruntime_cannot_run_is_compared_with_the_graph_that_runs(cli, tmp_path: Path, capsys):
    """bfloat16, for which onnxruntime has no MatMul and numpy's files have no type."""
    bfloat16 = onnx.TensorProto.BFLOAT16
    weight = helper.make_tensor("w", bfloat16, [4, 3], np.linspace(-1, 1, 12))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", bfloat16, ["n", 4])],
        [helper.make_tensor_value_info("y", bfloat16, ["n", 3])],
        [weight],
    )
    model = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model)
    x = np.ones((1, 4), np.float32)
    precise, rounded = _references(model, prepare(model)[0], Policy(), {"x": x})
    assert precise["y"] == pytest.approx(x @ np.linspace(-1, 1, 12).reshape(4, 3), abs=1e-2)
    assert rounded is None
    assert "graph that runs, in single precision: onnxruntime cannot run" in capsys.readouterr().err
    np.savez(tmp_path / "x.npz", x=x.astype(ml_dtypes.bfloat16))
    ended = cli("validate", model, "--per-node", "--inputs", tmp_path / "x.npz")
    assert ended.status == 4
    assert "files cannot hold bfloat16" in " ".join(ended.err.split())


def test_servers_that_are_there_are_asked(cli, model: Path, servers, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    cluster = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
    ended = cli("validate", model, *cluster, "--inputs", tmp_path / "x.npz")
    assert ended.status == 0
    texts = "measurements 1x30", "logits", "100 %", "LayerNormalization", "rounds", "peak memory"
    for text in (*texts, "each party waited"):
        assert text in ended.out


def test_servers_of_another_model_are_an_error(cli, model: Path, servers):
    cluster = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
    ended = cli("validate", model.parents[1] / "digits" / "model.onnx", *cluster)
    assert ended.status == 5
    assert "is not the one served here" in ended.message


def test_wrong_inputs_are_refused_before_servers_start(cli, model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("onnxpuma.roles.local.cluster.LocalCluster", None)
    np.savez(tmp_path / "x.npz", measurements=np.zeros((1, 7), np.float32))
    assert cli("validate", model, "--inputs", tmp_path / "x.npz").status == 4
    assert cli("validate", model, "--dim", "nothing=1").status == 6


def test_an_unsupported_model_is_refused_before_servers_start(cli, unsupported: Path, monkeypatch):
    monkeypatch.setattr("onnxpuma.roles.local.cluster.LocalCluster", None)
    ended = cli("validate", unsupported)
    assert ended.status == 3
    for name in ("determinant (Det", "foreign (my.operators::Mine", "again (Det"):
        assert name in ended.message


def test_options_that_contradict_each_other_are_refused(cli, model: Path, servers, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=np.zeros((1, 30), np.float32))
    assert "belong together" in cli("validate", model, "--cluster", servers.config_path).message
    ended = cli("validate", model, "--inputs", tmp_path / "x.npz", "--dim", "batch=1")
    assert "for random inputs" in ended.message
    assert "omit one" in cli("validate", model, "--per-node", "--tolerance", "1").err


def test_a_run_that_left_a_range_has_an_exit_status_of_its_own(cli, tmp_path: Path):
    """Beyond its range, the softmax gives wrong numbers."""
    model = grown(tmp_path / "m.onnx", 5e4)
    ended = cli("validate", model, "--json")
    assert ended.status == 9
    assert "left its range" in ended.message
    assert "--per-node" in ended.err
    found = json.loads(ended.out)
    assert found["outputs"]["y"]["max_abs_error"] > 1, "the report is printed all the same"
    assert found["reliable"] is False


def test_a_tolerance_that_no_run_on_shares_can_meet(
    cli, model: Path, patient: np.ndarray, servers, tmp_path: Path
):
    np.savez(tmp_path / "x.npz", measurements=patient)
    asked = ("--inputs", tmp_path / "x.npz", "--cluster", servers.config_path)
    own = ("--key", servers.folder / "client.secret", "--tolerance", "1e-12")
    assert cli("validate", model, *asked, *own).status == 8


def test_a_result_that_is_no_number_disagrees():
    values = np.array([1.0, np.nan], np.float32)
    found = validation({"y": np.ones(2, np.float32)}, {"y": values}, REPORTS, 0.0, 0.0)
    with pytest.raises(AccuracyError, match="y by nan"):
        check_tolerance(found, 0.5)
    check_tolerance(validation({"y": values}, {"y": values}, REPORTS, 0.0, 0.0), 0.0)


# -- node by node ----------------------------------------------------------------------------


def grown(path: Path, factor: float) -> Path:
    """x (batch, 8) @ w * factor, a Softmax whose scores may lie 8190 apart, and one more product."""
    rng, real = np.random.default_rng(3), onnx.TensorProto.FLOAT
    weights = {"w": rng.normal(size=(8, 8)), "factor": np.float64(factor)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Mul", ["a", "factor"], ["b"], name="grown"),
        helper.make_node("Softmax", ["b"], ["c"], name="softmax"),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="last"),
    ]
    declared = [helper.make_tensor_value_info(name, real, ["batch", 8]) for name in ("x", "y")]
    arrays = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "grown", declared[:1], declared[1:], arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_per_node_names_the_first_node_that_departs_and_why(cli, tmp_path: Path):
    ended = cli("validate", grown(tmp_path / "m.onnx", 5e4), "--per-node")
    assert ended.status == 0
    said = " ".join(ended.out.split())
    assert "The first node that departs is softmax (Softmax)" in said
    left = r"left its range: the distance of two scores of a row is [\d.e+]+, and must be below 8190"
    assert re.search(left, said)
    assert "--calibrate" in said
    for name in ("first", "grown", "last"):
        assert name in said


def test_per_node_of_a_model_inside_its_ranges(cli, model: Path, patient: np.ndarray, tmp_path: Path):
    np.savez(tmp_path / "x.npz", measurements=patient)
    ended = cli("validate", model, "--inputs", tmp_path / "x.npz", "--per-node", "--json")
    found = json.loads(ended.out)
    assert ended.status == 0
    assert set(found) == {"first", "nodes", "outputs"}
    assert found["first"] is None
    assert found["outputs"]["logits"] < 5e-3
    kinds = {node["operator"] for node in found["nodes"]}
    assert {"MatMul", "LayerNormalization", "Attention", "Gelu"} <= kinds
    for node in found["nodes"]:
        assert node["own_error"] <= node["allowed"] < 0.1 * max(node["magnitude"], 0.1)
        assert not node["departs"]
        assert all(use["inside"] for use in node["ranges"])
    assert found["nodes"][0]["own_error"] == found["nodes"][0]["error"]


def test_only_the_node_at_fault_departs(cli, tmp_path: Path):
    """The nodes after it compute correctly on its wrong result."""
    found = json.loads(cli("validate", grown(tmp_path / "m.onnx", 5e4), "--per-node", "--json").out)
    departs = {node["node"]: node["departs"] for node in found["nodes"]}
    assert departs == {"first": False, "grown": False, "softmax": True, "last": False}
    assert found["first"] == "softmax"
    assert found["outputs"]["y"] > 1
    assert cli("validate", grown(tmp_path / "small.onnx", 50), "--per-node", "--json").status == 0


def test_calibration_mends_it(cli, tmp_path: Path):
    model = grown(tmp_path / "m.onnx", 5e4)
    samples = np.random.default_rng(1).normal(size=(6, 2, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    calibrated = ("--calibrate", tmp_path / "samples.npz")
    found = json.loads(cli("validate", model, *calibrated, "--per-node", "--json").out)
    assert found["first"] is None
    np.savez(tmp_path / "x.npz", x=samples[0])
    ended = cli("validate", model, *calibrated, "--inputs", tmp_path / "x.npz", "--json")
    output = json.loads(ended.out)["outputs"]["y"]
    assert output["max_abs_error"] < 1e-4 * output["reference_max_abs"]


def test_per_node_needs_the_weights_here(cli, model: Path, servers):
    cluster = ("--cluster", servers.config_path, "--key", servers.folder / "client.secret")
    ended = cli("validate", model, *cluster, "--per-node")
    assert ended.status == 6
    assert "opens every value" in ended.message


def test_a_folder_of_several_graphs_is_validated_file_by_file(cli, graphs_folder: Path):
    ended = cli("validate", graphs_folder)
    assert ended.status == 6
    assert "several graphs" in ended.message
    assert "decoder_with_past_model.onnx" in ended.err
    assert cli("validate", graphs_folder / "decoder_model.onnx", "--json").status == 0


def test_weights_that_do_not_fit_are_read(cli, model: Path):
    ended = cli("validate", model.parents[1] / "tales" / "model.onnx", "--memory", "0.6MB", "--json")
    found = json.loads(ended.out)
    assert ended.status == 0
    read, made = ([each[name] for each in found["streamed"]] for name in ("bytes_read", "key_bytes"))
    assert read[0] == 0
    assert read[1] == read[2] == made[1] == made[2] == made[0] // 2 > 100_000
    assert min(each["products"] for each in found["phases"]) > 0
    assert found["reliable"]


@pytest.mark.parametrize("size", ["much", "6", "0GB", "-1GB", "6 elephants"])
def test_a_size_that_is_none(cli, model: Path, size: str):
    ended = cli("validate", model, f"--memory={size}")
    assert ended.status == 6
    assert "is not a size of memory" in ended.message
