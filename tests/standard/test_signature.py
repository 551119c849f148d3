"""Attributes are read by the schema of their operator."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from onnxpuma.graph.model import Node
from onnxpuma.ops.range_check import DOMAIN
from onnxpuma.standard.signature import signature

ROOT = Path(__file__).resolve().parents[2]


def node(op: str, version: int = 24, domain: str = "", **attributes: int) -> Node:
    return Node("n", op, domain, version, ("x",), ("y",), attributes)  # type: ignore[arg-type]


def test_a_default_is_that_of_the_version() -> None:
    assert node("Softmax").attribute("axis") == -1
    assert node("Softmax", 11).attribute("axis") == 1
    assert node("Softmax", axis=0).attribute("axis") == 0


def test_a_number_is_the_one_that_the_standard_writes() -> None:
    assert node("LayerNormalization").attribute("epsilon") == 1e-5
    assert node("LeakyRelu").attribute("alpha") == 0.01


def test_a_text_is_no_bytes() -> None:
    assert node("Pad").attribute("mode") == "constant"


def test_an_attribute_without_a_default_is_none() -> None:
    assert node("Transpose").attribute("perm") is None


def test_an_attribute_of_another_version_has_its_default() -> None:
    assert node("Attention", 24).attribute("left_window_size") == -1
    assert node("ReduceMean", 18).attribute("axes") is None


def test_an_unknown_attribute_is_an_error_whether_it_is_given_or_not() -> None:
    with pytest.raises(KeyError, match="Softmax has no attribute 'axes'"):
        node("Softmax").attribute("axes")
    with pytest.raises(KeyError, match="Softmax has no attribute 'axes'"):
        node("Softmax", axes=1).attribute("axes")


def test_operators_of_the_planner_declare_theirs() -> None:
    assert signature("RangeCheck", 1, DOMAIN) == {"readings": ()}
    assert signature("RangeOf", 1, DOMAIN) == {"reading": None}
    assert signature("RangeOf", 1) == {}


@pytest.mark.parametrize("room", ["ops", "onnxpuma/plan"])
def test_no_default_is_written_where_an_attribute_is_read(room: str) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                place = f"{path.name}:{call.lineno}"
                assert call.func.attr != "attribute" or len(call.args) == 1, place
                assert not ast.unparse(call.func).endswith("attributes.get"), place
