"""Batch normalisations are folded into weights, and no result changes."""

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
    assert report.rules[TITLE] == 1
    assert [node.op for node in graph.nodes] == ["Conv", "Sub", "Mul", "Add", "Relu"]


@pytest.mark.parametrize("shape", [(5, 8), (2, 8, 6), (2, 8, 3, 4)])
def test_alone_it_is_a_product(rewritten: Any, random: np.random.Generator, shape: tuple[int, ...]) -> None:
    """Small variances lose no digits, although a unit of fixed point is larger than they are."""
    held = {n: random.normal(size=8) for n in ("scale", "shift", "mean")}
    held["variance"] = random.uniform(1e-7, 1e-6, 8)
    node = helper.make_node("BatchNormalization", ["x", *held], ["y"], epsilon=1e-7, name="bn")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v.astype(F), n) for n, v in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made, report = rewritten(model, {"x": random.normal(size=shape).astype(F)}, atol=1e-2)
    assert report.rules[TITLE] == 1
    assert [node.op for node in made.nodes] == ["Sub", "Mul", "Add"]
