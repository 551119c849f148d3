"""Shapes of a request: a cache may be empty before the first token; ids and batches may not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.errors import InputError
from onnxpuma.roles.local.memory import MemoryModel


@pytest.fixture(scope="module")
def model() -> MemoryModel:
    """`past` and one more row, as a decoder's cache grows."""
    float32, past = onnx.TensorProto.FLOAT, ["batch", "past", 4]
    inputs = [
        helper.make_tensor_value_info("past", float32, past),
        helper.make_tensor_value_info("new", float32, ["batch", 1, 4]),
    ]
    outputs = [helper.make_tensor_value_info("present", float32, ["batch", "all", 4])]
    table = onnx.numpy_helper.from_array(np.full(4, 2, np.float32), "two")
    nodes = [
        helper.make_node("Concat", ["past", "new"], ["joined"], axis=1),
        helper.make_node("Mul", ["joined", "two"], ["present"]),
    ]
    graph = helper.make_graph(nodes, "cache", inputs, outputs, [table])
    return MemoryModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_cache_may_be_empty(model: MemoryModel, length: int) -> None:
    feed = {"past": np.ones((2, length, 4), np.float32), "new": np.full((2, 1, 4), 0.25, np.float32)}
    present = model.run(feed).outputs["present"]
    want = np.concatenate([feed["past"], feed["new"]], axis=1) * 2
    assert present.shape == want.shape
    assert np.abs(present - want).max() < 1e-5


def test_a_batch_may_not(model: MemoryModel) -> None:
    with pytest.raises(InputError, match=r"shape \(0, 2, 4\)"):
        model.plan({"past": np.ones((0, 2, 4), np.float32), "new": np.ones((0, 1, 4), np.float32)})


def test_one_symbol_is_one_size(model: MemoryModel) -> None:
    with pytest.raises(InputError, match="batch = 2"):
        model.plan({"past": np.ones((2, 2, 4), np.float32), "new": np.ones((3, 1, 4), np.float32)})
