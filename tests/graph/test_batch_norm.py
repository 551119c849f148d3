"""Batch normalisations after convolutions go into their weights, and no result changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxpuma.graph.rules.batch_norm import TITLE

F = np.float32


def _model(random: np.random.Generator, op: str, bias: bool, group: int, also: str = "") -> onnx.ModelProto:
    shape = (8, 4 // group, 3, 3) if op == "Conv" else (4, 8 // group, 3, 3)
    weights = {"w": random.normal(size=shape), "c": random.normal(size=8)}
    weights |= {n: random.normal(size=8) for n in ("scale", "shift", "mean")}
    weights["variance"] = random.uniform(0.1, 2, 8)
    nodes = [
        helper.make_node(op, ["x", "w", "c"] if bias else ["x", "w"], ["z"], group=group, name="conv"),
        helper.make_node(
            "BatchNormalization", ["z", "scale", "shift", "mean", "variance"], ["n"], epsilon=1e-3, name="bn"
        ),
        helper.make_node("Relu", ["n"], ["y"], name="relu"),
    ]
    outputs = ["y", *([also] if also else [])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4, 6, 6])],
        [helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(v.astype(F), n) for n, v in weights.items() if n != "c" or bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
def test_folded(rewritten: Any, random: np.random.Generator, op: str, bias: bool, group: int) -> None:
    feed = {"x": random.normal(size=(2, 4, 6, 6)).astype(F)}
    graph, report = rewritten(_model(random, op, bias, group), feed)
    assert report.rules[TITLE] == 1
    assert [node.op for node in graph.nodes] == [op, "Relu"]
    assert set(graph.initializers) == {"w", "w_shift"}


def test_a_result_of_the_model_keeps_its_name(rewritten: Any, random: np.random.Generator) -> None:
    feed = {"x": random.normal(size=(2, 4, 6, 6)).astype(F)}
    graph, report = rewritten(_model(random, "Conv", True, 1, also="n"), feed)
    assert report.rules[TITLE] == 1
    assert list(graph.outputs) == ["y", "n"]


def test_what_somebody_else_reads_stays(rewritten: Any, random: np.random.Generator) -> None:
    feed = {"x": random.normal(size=(2, 4, 6, 6)).astype(F)}
    graph, report = rewritten(_model(random, "Conv", True, 1, also="z"), feed)
    assert TITLE not in report.rules
    assert [node.op for node in graph.nodes] == ["Conv", "BatchNormalization", "Relu"]
