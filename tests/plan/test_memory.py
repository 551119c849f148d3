"""A server's memory: two words per weight, and the widest moment of a run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.memory import Memory, memory
from onnxpuma.plan.prepare import prepare_model

MEGABYTE = 1 << 20


def blueprint(*nodes: onnx.NodeProto, table: tuple[int, int] = (1000, 64), ids: bool = False) -> Blueprint:
    kind = onnx.TensorProto.INT64 if ids else onnx.TensorProto.FLOAT
    shape = ["n"] if ids else ["n", table[0]]
    weight = np.random.default_rng(0).normal(size=table).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return prepare_model(ir.from_proto(model))[0]


def needed(made: Blueprint, *shape: int) -> Memory:
    return memory(compile_plan(made, {"x": shape}, {}), made)


def product(*rest: onnx.NodeProto) -> Blueprint:
    return blueprint(helper.make_node("MatMul", ["x", "w"], ["h" if rest else "y"]), *rest)


def test_weights_are_two_words_each() -> None:
    assert needed(product(), 1, 1000).weights == 16 * 64_000


def test_the_largest_weight_is_held_once_more_while_it_is_read() -> None:
    found = needed(product(), 1, 1000)
    assert found.whole - found.weights - 180 * MEGABYTE == 8 * 64_000


@pytest.mark.parametrize("rows", [2_000, 8_000])
def test_a_run_counts_what_its_widest_moment_works_on(rows: int) -> None:
    gelu = helper.make_node("Gelu", ["h"], ["y"])
    found = needed(product(gelu), rows, 1000)
    working = found.whole - found.weights - 180 * MEGABYTE
    assert 150 * 64 * rows < working < 450 * 64 * rows


def test_ids_are_looked_up_in_all_rows() -> None:
    made = blueprint(helper.make_node("Gather", ["w", "x"], ["y"]), table=(5000, 16), ids=True)
    found = needed(made, 400)
    assert 8 < (found.whole - found.weights - 180 * MEGABYTE) / (400 * 5000) < 20, (
        "8 bytes per row were measured"
    )


def test_a_chain_frees_what_it_has_read() -> None:
    one = needed(product(helper.make_node("Tanh", ["h"], ["y"])), 8000, 1000)
    chain = [helper.make_node("Tanh", [a], [b]) for a, b in (("h", "i"), ("i", "j"), ("j", "k"), ("k", "y"))]
    assert needed(product(*chain), 8000, 1000).whole == pytest.approx(one.whole, rel=0.05)
