"""A product stays untruncated only if its one reader still gets the bits that it needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.check.single import plain, typed
from onnxpuma.mpc.forms import Sum3
from onnxpuma.ops.normalised_rows import normalised_cost
from onnxpuma.ops.normalize import _layer_rows
from onnxpuma.ops.rows import Centring
from onnxpuma.roles.local.memory import MemoryModel


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    declared = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, 4])]
    weights = np.random.default_rng(0).normal(0, 1, (4, 4)).astype(np.float32)
    graph = helper.make_graph(
        list(nodes),
        "g",
        declared,
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(weights[0], "s")],
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
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("MatMul", ["t", "w"], ["u"]),
            helper.make_node("LayerNormalization", ["u", "s", "s"], ["y"]),
        ],
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Split", ["h"], ["a", "b"], axis=0, num_outputs=2),
            helper.make_node("Mul", ["a", "a"], ["aa"]),
            helper.make_node("Mul", ["b", "b"], ["bb"]),
            helper.make_node("Concat", ["aa", "bb"], ["y"], axis=0),
        ],
    ],
    ids=["quick-gelu", "gelu", "output", "normalisation", "truncated side by side"],
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


def test_a_normalisation_centres_the_product_that_it_reads() -> None:
    """Where rows are known to be short: two rounds of truncation are then all that come before the root."""
    short = helper.make_node("Tanh", ["x"], ["t"])
    product = helper.make_node("MatMul", ["t", "w"], ["h"])
    norm = helper.make_node("LayerNormalization", ["h", "s"], ["y"])
    plan = MemoryModel(model(short, product, norm), at_client=False).plan({"x": np.zeros((3, 4))})
    (step,) = (step for step in plan.steps if step.operator.name == norm.op_type)
    assert step.call.given(0).form is Sum3
    rows = replace(_layer_rows(step.call), centring=Centring.NONE)
    assert step.cost.rounds == 2 + normalised_cost(rows, step.call).rounds
