"""A tiny model of mixed protocols: look-ups of ids, products, tables that pivots deal, openings."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.roles.cheating.trio import Trio

WIDTH, VOCABULARY, LAYERS = 6, 12, 3


def small_model() -> onnx.ModelProto:
    """A look-up, a product, a Gelu and a Relu: the smallest mixture of protocols."""
    rng = np.random.default_rng(7)
    weights = {"table": rng.normal(0, 1, (4, 2)), "kernel": rng.normal(0, 1, (2, 2))}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "kernel"], ["p"]),
        helper.make_node("Gelu", ["p"], ["g"]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("Add", ["g", "r"], ["y"]),
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def mixed_model() -> onnx.ModelProto:
    """Rows of a table, then layers of a product, Gelu, Relu and softmax: each party leads some of each."""
    rng = np.random.default_rng(5)
    weights = {"table": rng.normal(0, 1, (VOCABULARY, WIDTH))}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["rows", "x"], ["h0"]),
    ]
    for i in range(LAYERS):
        weights[f"kernel{i}"] = rng.normal(0, 0.6, (WIDTH, WIDTH))
        nodes += [
            helper.make_node("MatMul", [f"h{i}", f"kernel{i}"], [f"p{i}"]),
            helper.make_node("Gelu", [f"p{i}"], [f"g{i}"]),
            helper.make_node("Relu", [f"p{i}"], [f"r{i}"]),
            helper.make_node("Softmax", [f"p{i}"], [f"s{i}"], axis=-1),
            helper.make_node("Add", [f"g{i}", f"r{i}"], [f"a{i}"]),
            helper.make_node("Add", [f"a{i}", f"s{i}"], [f"b{i}"]),
            helper.make_node("Relu", [f"s{i}"], [f"t{i}"]),  # it moves the turns of the pivots on
            helper.make_node("Add", [f"b{i}", f"t{i}"], [f"h{i + 1}"]),
        ]
    nodes.append(helper.make_node("Identity", [f"h{LAYERS}"], ["y"]))
    constants = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [2]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, WIDTH]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, WIDTH])]
    graph = helper.make_graph(nodes, "mixed", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def mixed_feed() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    return {"ids": np.array([3, 7]), "x": rng.normal(0, 1, (2, WIDTH)).astype(np.float32)}


@pytest.fixture(scope="session")
def trio() -> Trio:
    return Trio(mixed_model(), mixed_feed())
