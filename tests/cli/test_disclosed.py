"""What share and inspect list as public; and nothing doubtful is disclosed without the owner's consent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.owner.owner import share_model


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Two equal masks, and one array that somebody could have trained."""
    weight = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    mask = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
    arrays = {"w": weight, "mask.1": mask, "mask.2": 2 * mask, "odd[0]": np.triu(np.full((5, 5), -1e9), 1)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h0"]),
        helper.make_node("Add", ["h0", "mask.1"], ["h1"]),
        helper.make_node("Softmax", ["h1"], ["h2"]),
        helper.make_node("Add", ["h2", "mask.2"], ["h3"]),
        helper.make_node("Softmax", ["h3"], ["h4"]),
        helper.make_node("Add", ["h4", "odd[0]"], ["h5"]),
        helper.make_node("Softmax", ["h5"], ["y"]),
    ]
    border = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [5, 5]) for n in "xy"]
    constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "g", border[:1], border[1:], constants)
    path = tmp_path / "masked.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.fixture
def doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The odd array is doubtful, unless a pattern names it."""
    listed = Blueprint.public_listing

    def doubting(blueprint: Blueprint):
        return [
            replace(entry, doubtful=entry.name == "odd[0]" and not entry.reason.startswith("pattern"))
            for entry in listed(blueprint)
        ]

    monkeypatch.setattr(Blueprint, "public_listing", doubting)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody at the terminal gives this answer."""

    def answer(text: str) -> None:
        terminal = io.StringIO(text)
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)

    return answer


@pytest.mark.parametrize("command", ["share", "inspect"])
def test_public_arrays_are_listed_those_that_are_alike_in_a_line(cli, masked: Path, tmp_path: Path, command):
    ended = cli(command, masked, *(["--out", tmp_path / "shared"] if command == "share" else []))
    assert ended.status == 0
    lines = [line for line in ended.out.splitlines() if "mask.1" in line and "5x5" in line]
    assert len(lines) == 1
    assert "mask.2" in lines[0]
    assert "0, -inf, -inf, -inf ..." in lines[0]
    assert "float32" in lines[0]
    assert any("odd[0]" in line and "-1e+09" in line for line in ended.out.splitlines())


def test_programs_are_given_the_list_too(cli, masked: Path):
    listed = json.loads(cli("inspect", masked, "--json").out)["listed"]
    assert [entry["name"] for entry in listed] == ["mask.1", "mask.2", "odd[0]"]
    assert listed[0]["preview"] == [0.0, "-inf", "-inf", "-inf"]
    assert not listed[0]["doubtful"]


def test_what_may_be_trained_needs_a_word(cli, masked: Path, tmp_path: Path, doubted: None, monkeypatch):
    out = tmp_path / "shared"
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # a pipe: nobody is asked
    ended = cli("share", masked, "--out", out)
    assert ended.status == 6
    assert "may be trained" in ended.message
    assert "odd[0]" in ended.message
    assert "--public 'odd[[]0]'" in ended.err
    assert "it may be trained" in ended.out
    assert not out.exists()
    named = cli("share", masked, "--out", out, "--public", "odd[[]0]")
    assert named.status == 0
    assert "it may be trained" not in named.out
    assert cli("share", masked, "--out", out, "--yes", "--replace").status == 0


@pytest.mark.parametrize(
    ("said", "status"), [("y\n", 0), ("Yes\n", 0), ("\n", 6), ("n\n", 6), ("", 6), ("yess\n", 6)]
)
def test_a_person_at_a_terminal_is_asked(
    cli, masked: Path, tmp_path: Path, doubted: None, answering: Callable[[str], None], said: str, status: int
):
    answering(said)
    ended = cli("share", masked, "--out", tmp_path / "shared")
    assert ended.status == status
    assert "May everybody see odd[0]? [y/N]" in ended.err
    assert (tmp_path / "shared").exists() == (status == 0)


def test_nobody_is_asked_about_what_is_certain(
    cli, masked: Path, tmp_path: Path, answering: Callable[[str], None]
):
    answering("")
    ended = cli("share", masked, "--out", tmp_path / "shared")
    assert ended.status == 0
    assert "[y/N]" not in ended.err


def test_the_same_in_python(masked: Path, tmp_path: Path, doubted: None):
    out = tmp_path / "shared"
    with pytest.raises(ConfigError, match=r"odd\[0\]") as refused:
        share_model(masked, out)
    assert "public=[...]" in refused.value.hint
    assert not out.exists()
    with pytest.raises(ConfigError):
        share_model(masked, out, review=lambda _: False)
    share_model(masked, out, public=["odd*"])
    share_model(masked, out, review=lambda model: bool(model.graphs), replace=True)


def test_inputs_that_a_client_has_to_name_are_listed(cli, model: Path, masked: Path, tmp_path: Path):
    ended = cli("share", model, "--out", tmp_path / "shared", "--public-input", "measurements")
    assert "a client must consent before the servers see measurements" in ended.out
    assert "--public-input measurements" in ended.out
    assert "must consent" not in cli("share", masked, "--out", tmp_path / "masked").out
    assert "must consent" not in cli("inspect", model.parents[1] / "tales").out


def test_frequencies_of_no_known_series_are_such_a_case(cli, tmp_path: Path):
    """Nothing shows whether these were trained, so they are doubtful."""
    rng = np.random.default_rng(3)
    arrays = {
        "freqs": np.sort(rng.uniform(0.01, 1, 24))[::-1].astype(np.float32),
        "w": rng.normal(size=(24, 4)).astype(np.float32),
        "last": np.array([-1]),
    }
    nodes = [
        helper.make_node("Cast", ["position_ids"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real", "last"], ["column"]),
        helper.make_node("Mul", ["column", "freqs"], ["angles"]),
        helper.make_node("Cos", ["angles"], ["turned"]),
        helper.make_node("Mul", ["x", "turned"], ["moved"]),
        helper.make_node("MatMul", ["moved", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "s", 24]),
            helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "s", 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path = tmp_path / "turned.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    refused = cli("share", path, "--out", tmp_path / "shared")
    assert refused.status == 6
    assert "--public freqs" in refused.err
    assert cli("share", path, "--out", tmp_path / "shared", "--public", "freqs").status == 0
