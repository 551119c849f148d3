"""inspect: every node with its cost; and its reports on models that cannot run or cannot be read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from onnxpuma.commands import screen
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.widths import with_widths
from onnxpuma.plan.owner_policy import DEFAULT
from onnxpuma.plan.prepare import prepare

TALES = Path(__file__).resolve().parents[2] / "models" / "tales" / "model.onnx"
BERT = Path(__file__).resolve().parents[1] / "graph" / "data" / "bert-torchscript-17.onnx"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product, a bias and a Gelu."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["p", "b"], ["s"], name="bias"),
        helper.make_node("Gelu", ["s"], ["y"], name="activation"),
    ]
    weights = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(weights[0], "b")]
    sides = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 4])] for n in "xy"]
    graph = helper.make_graph(nodes, "small", *sides, constants)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_every_node_is_listed_and_the_total_is_the_plans(cli, model: Path):
    ended = cli("inspect", model, "--dim", "batch=3", "--json")
    found = json.loads(ended.out)
    blueprint = with_widths(prepare(model)[0], DEFAULT, {"batch": 3})
    plan = compile_plan(blueprint, {"measurements": (3, 30)}, {})
    assert ended.status == 0
    assert [node["name"] for node in found["nodes"]] == [node.name for node in blueprint.graph.nodes]
    assert found["rounds"] == plan.cost.rounds
    assert found["bytes"] == round(plan.cost.bytes)
    assert found["check"]["bytes"] == round(plan.checks_cost.bytes) > 0
    assert found["check"]["rounds"] <= 6
    assert found["check"]["bytes"] < found["bytes"] / 10
    assert sum(node["bytes"] for node in found["nodes"]) + found["check"]["bytes"] == pytest.approx(
        found["bytes"], abs=len(found["nodes"])
    )
    assert found["inputs"]["measurements"] == {
        "shape": [3, 30],
        "dtype": "float32",
        "secret": True,
        "vocabulary": None,
    }


def test_time_follows_from_the_network(cli, small: Path):
    def priced(*network: str) -> dict[str, float]:
        return json.loads(cli("inspect", small, "--json", *network).out)

    slow = priced("--bandwidth", "1Mbit", "--latency", "0s")
    far = priced("--bandwidth", "1000Gbit", "--latency", "50ms")
    assert slow["seconds"] == pytest.approx(slow["bytes"] * 8 / 3 / 1e6, rel=1e-3)
    assert far["seconds"] == pytest.approx(far["rounds"] * 0.05, rel=1e-3)
    assert slow["bytes"] <= far["bytes"]
    assert far["rounds"] <= slow["rounds"]


def test_computing_is_told_apart_from_the_links(cli, small: Path):
    found = json.loads(cli("inspect", small, "--json", "--cores", "1").out)
    parts = found["predicted"]
    assert parts["links"] == pytest.approx(found["seconds"], rel=1e-6)
    assert parts["computing"] == pytest.approx(parts["products"] + parts["elements"] + parts["rounds"])
    assert parts["whole"] == parts["links"] + parts["computing"] > found["seconds"]
    many = json.loads(cli("inspect", small, "--json", "--cores", "4").out)["predicted"]
    assert many["products"] == pytest.approx(parts["products"] / 4)
    assert many["rounds"] == parts["rounds"]
    assert "on three machines like this one with 4 cores each" in cli("inspect", small, "--cores", "4").out


def test_a_choice_sums_up_to_the_total(cli):
    found = json.loads(cli("inspect", TALES, "--json").out)
    for choice in found["choices"]:
        taken = [way for way in choice["ways"] if way["steps"]]
        assert taken
        if len(taken) == 1:
            assert (taken[0]["model_rounds"], taken[0]["model_bytes"]) == (found["rounds"], found["bytes"])


def test_the_table_shows_operators_constants_and_totals(cli, model: Path):
    out = cli("inspect", model).out
    for text in (
        "LayerNormalization",
        "1x31x64",
        "secret",
        "public",
        "rounds",
        "Secret weights",
        "integers",
        "Total",
    ):
        assert text in out


def test_a_weight_made_public_is_no_longer_secret(cli, small: Path):
    before = json.loads(cli("inspect", small, "--json").out)["constants"]
    name = next(c["name"] for c in before if c["secret"])
    after = json.loads(cli("inspect", small, "--json", "--public", name).out)["constants"]
    assert {c["name"] for c in before if c["secret"]} - {c["name"] for c in after if c["secret"]} == {name}


def test_an_unsupported_model_gets_its_whole_table_and_every_reason(cli, unsupported: Path):
    ended = cli("inspect", unsupported)
    assert ended.status == 3
    for name in ("determinant (Det)", "foreign (my.operators::Mine)", "again (Det)"):
        assert name in ended.message
        assert f"{name}: no secure kernel" in ended.out
    assert "product" in ended.out


def test_json_of_an_unsupported_model_is_whole(cli, unsupported: Path):
    ended = cli("inspect", unsupported, "--json")
    nodes = {node["name"]: node for node in json.loads(ended.out)["nodes"]}
    assert ended.status == 3
    assert [bool(nodes[n]["refused"]) for n in ("product", "determinant", "foreign", "again")] == [
        False,
        True,
        True,
        True,
    ]
    assert nodes["product"]["bytes"] > 0


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_refused(cli, model: Path, tmp_path: Path, damage: str):
    whole = model.read_bytes()
    path = tmp_path / "damaged.onnx"
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"not a model at all"}[damage])
    ended = cli("inspect", path)
    assert ended.status == 3
    assert "damaged.onnx" in ended.message


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--dim", "rows", "is not NAME=SIZE"),
        ("--dim", "columns=3", "no dimension 'columns'"),
        ("--dim", "rows=0", "dimension 'rows' is 0"),
        ("--bandwidth", "fast", "not a bandwidth"),
        ("--bandwidth", "0Gbit", "not a bandwidth"),
        ("--latency", "1 day", "not a time"),
        ("--public", "no_such_weight*", "matches no weight"),
        ("--public-input", "no_such_input", "no input matches"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(cli, small: Path, option: str, value: str, said: str):
    ended = cli("inspect", small, option, value)
    assert ended.status == 6
    assert said in ended.message


def test_a_node_that_runs_as_its_function_is_priced_as_one(cli, tmp_path: Path):
    nodes = [helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], name="norm", num_groups=2)]
    shape = ["batch", 4, 4]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["i", "w"], ["x"], name="product"), *nodes],
        "g",
        [helper.make_tensor_value_info("i", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.5] * 16),
            helper.make_tensor("s", TensorProto.FLOAT, [4], [1.5, 0.5, 1.0, 2.0]),
            helper.make_tensor("b", TensorProto.FLOAT, [4], [0.1, 0.2, 0.0, 0.4]),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
        tmp_path / "norm.onnx",
    )
    found = json.loads(cli("inspect", tmp_path / "norm.onnx", "--json").out)
    norm = found["nodes"][-1]
    assert (norm["operator"], norm["seen"], norm["shape"]) == ("GroupNormalization", "secret", [1, 4, 4])
    parts = sum(node["bytes"] for node in found["nodes"]) + found["check"]["bytes"]
    assert parts == pytest.approx(found["bytes"], abs=2)


def test_a_folder_of_graphs_is_listed_and_then_each_graph(cli, graphs_folder: Path):
    names = ["encoder_model", "decoder_model", "decoder_with_past_model"]
    found = json.loads(cli("inspect", graphs_folder, "--json", "--dim", "cached=7").out)["graphs"]
    assert list(found) == names
    assert found["decoder_with_past_model"]["inputs"]["past"]["shape"] == [1, 7, 8]
    ended = cli("inspect", graphs_folder)
    assert ended.status == 0
    listing, *parts = re.split("^(?:" + "|".join(names) + ")$", ended.out, flags=re.MULTILINE)
    assert all(name in listing for name in names)
    assert len(parts) == 3
    assert all("Total" in part for part in parts)


def test_the_folder_of_a_shared_model_reads_like_the_owners(cli, graphs_folder: Path, tmp_path: Path):
    cli("share", graphs_folder, "--out", tmp_path)
    before, after = (json.loads(cli("inspect", f, "--json").out)["graphs"] for f in (graphs_folder, tmp_path))
    assert after == before
    ended = cli("inspect", tmp_path, "--public", "kernel")
    assert ended.status == 6
    assert "settled" in ended.message


def test_a_dimension_of_no_graph_is_refused(cli, graphs_folder: Path):
    assert "no dimension 'rows'" in cli("inspect", graphs_folder, "--dim", "rows=3").message


def test_what_is_refused_bears_the_name_of_its_graph(cli, graphs_folder: Path, unsupported, tmp_path: Path):
    folder = Path(shutil.copytree(graphs_folder, tmp_path / "graphs"))
    shutil.copy(unsupported, folder / "decoder_model.onnx")
    ended = cli("inspect", folder)
    assert ended.status == 3
    assert "decoder_model: determinant (Det)" in ended.message


def test_a_budget_of_memory_says_what_stays_and_what_a_run_reads(cli):
    whole = json.loads(cli("inspect", TALES, "--json").out)
    assert "residence" not in whole
    assert whole["memory"]["streamed"] == 0
    found = json.loads(cli("inspect", TALES, "--json", "--memory", "600kB").out)
    place = found["residence"]
    assert place["streamed"]
    assert place["words_bytes"] + place["packed_bytes"] + place["window"] <= 600_000
    assert found["memory"]["weights"] < 600_000 < whole["memory"]["weights"]
    # the table of words is looked up and multiplied by, so a run reads it twice
    assert place["streamed_bytes"] < found["memory"]["streamed"] < 2 * place["streamed_bytes"]
    said = cli("inspect", TALES, "--memory", "600kB").out
    assert "weights that do not fit: in a run servers 1 and 2 read" in said
    ended = cli("inspect", TALES, "--memory", "1kB")
    assert ended.status == 6
    assert "are too little for the weights" in ended.message


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    options = {"highlight": False, "force_terminal": True, "color_system": None, "width": 80}
    monkeypatch.setattr(screen, "stdout", lambda: Console(**options))


@pytest.mark.usefixtures("narrow")
def test_a_terminal_of_80_columns_shows_a_line_for_each_node(cli):
    out = cli("inspect", BERT).out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    whole = json.loads(cli("inspect", BERT, "--json").out)
    begin = next(place for place, line in enumerate(lines) if line.startswith("operator") and "shape" in line)
    table = lines[begin + 1 : begin + 1 + len(whole["nodes"])]
    for line, node in zip(table, whole["nodes"], strict=True):
        assert line[:6].strip() == node["operator"][:6]
        front, cut, back = line.split()[-1].partition("…")
        assert node["name"].startswith(front)
        assert not cut or node["name"].endswith(back)
        assert cut or front == node["name"]


def test_a_pipe_gets_whole_names_and_what_was_recognised(cli):
    out = cli("inspect", BERT).out
    assert "Gelu" in out.split("Recognised")[1]
    assert "…" not in out
    assert "/model/embeddings/LayerNorm/LayerNormalization/Mul" in out


def test_a_summary_leaves_out_nodes_and_says_which_sizes_it_assumed(cli, model: Path, small: Path):
    ended = cli("inspect", model, "--summary")
    assert "Total" in ended.out
    assert "LayerNormalization" in ended.out
    assert "bytes are those of all three servers" in ended.out
    assert "Sizes assumed  batch=1; --dim NAME=SIZE" in ended.out
    assert not any(node.name in ended.out for node in onnx.load(model).graph.node)
    assert "Secret weights" not in ended.out
    assert "Sizes assumed" not in cli("inspect", small, "--summary", "--dim", "rows=2").out
    assert json.loads(cli("inspect", small, "--json").out)["assumed"] == {"rows": 1}


def test_a_page_is_written_where_it_can_be(cli, small: Path, tmp_path: Path):
    page = tmp_path / "page.html"
    ended = cli("inspect", small, "--summary", "--html", page)
    assert "Wrote" in ended.out
    assert "<svg" in page.read_text()
    ended = cli("inspect", small, "--html", tmp_path / "no" / "page.html")
    assert ended.status == 6
    assert "cannot write" in ended.message
