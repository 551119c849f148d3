"""A product stays untruncated only if its one reader still gets the bits that it needs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.check.single import plain, typed
from onnxpuma.roles.local.memory import MemoryModel


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    declared = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, 4])]
    weights = np.random.default_rng(0).normal(0, 1, (4, 4)).astype(np.float32)
    graph = helper.make_graph(
        list(nodes),
        "g",
        declared,
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    return typed(made, {"x": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Swish", ["h"], ["y"], alpha=1.702)],
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Gelu", ["h"], ["y"])],
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Split", ["h"], ["a", "b"], axis=0, num_outputs=2),
            helper.make_node("Mul", ["a", "a"], ["aa"]),
            helper.make_node("Mul", ["b", "b"], ["bb"]),
            helper.make_node("Concat", ["aa", "bb"], ["y"], axis=0),
        ],
    ],
    ids=["quick-gelu", "gelu", "output", "truncated side by side"],
)
def test_products_and_their_readers(nodes: list[onnx.NodeProto]) -> None:
    made = model(*nodes)
    feed = {"x": np.random.default_rng(1).normal(0, 2, (3, 4)).astype(np.float32)}
    outcome = MemoryModel(made).run(feed)
    assert np.abs(outcome.outputs["y"] - plain(made, feed)[0]).max() < 3e-3
    assert outcome.cost == outcome.plan.cost


def test_an_output_is_not_truncated_among_the_servers() -> None:
    plan = MemoryModel(model(helper.make_node("MatMul", ["x", "w"], ["y"]))).plan({"x": np.zeros((3, 4))})
    assert plan.cost.bits == 0
