"""Look-ups in a secret table at ids that only the client knows, whichever operator expresses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxpuma.check.single import plain
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel

RNG = np.random.default_rng(0)
TABLE = RNG.normal(0, 3, (4, 3, 5)).astype(np.float32)
CASES: list[tuple[str, np.ndarray, dict[str, Any]]] = [
    ("Gather", np.array([[3, 0], [1, -1]]), {"axis": 0}),
    ("Gather", np.array([[3, 0], [1, -1]]), {"axis": 2}),
    ("Gather", np.array(1), {"axis": 1}),
    ("GatherND", np.array([[3], [-4]]), {}),
    ("GatherND", np.array([[[3, 1], [0, -1]], [[-2, 2], [1, 0]]]), {}),
    ("GatherND", np.array([[3, 2, 4], [0, 0, -5]]), {}),
    ("GatherND", np.array([[2], [-1], [0], [1]]), {"batch_dims": 1}),
    ("GatherND", np.array([[[2], [-1], [0]]] * 4), {"batch_dims": 2}),
    ("GatherElements", RNG.integers(-4, 4, (2, 3, 4)), {"axis": 0}),
    ("GatherElements", RNG.integers(-5, 5, (4, 2, 6)), {"axis": -1}),
]


def _model(op: str, index: np.ndarray, **attributes: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["table", "ids"], ["y"], name="node", **attributes)],
        "look-up",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, index.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(TABLE, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("op", "index", "attributes"), CASES)
def test_rows_at_secret_ids(op: str, index: np.ndarray, attributes: dict[str, Any]) -> None:
    model = _model(op, index, **attributes)
    done = MemoryModel(model, secret_inputs=["ids"]).run({"ids": index})
    assert [entry.depth > 0 for entry in done.plan.inputs] == [True]
    assert done.cost == done.plan.cost
    assert done.outputs["y"] == pytest.approx(plain(model, {"ids": index})[0], abs=4e-6)


def test_rotation_at_positions_of_the_client() -> None:
    angles = np.outer(np.arange(9), [1, 0.3]).astype(np.float32)
    q = RNG.normal(0, 2, (1, 2, 3, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["q", "w"], ["x"], name="scaled"),
            helper.make_node("RotaryEmbedding", ["x", "cos", "sin", "places"], ["y"], name="turned"),
        ],
        "rotation",
        [
            helper.make_tensor_value_info("q", onnx.TensorProto.FLOAT, q.shape),
            helper.make_tensor_value_info("places", onnx.TensorProto.INT64, (1, 3)),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(RNG.normal(0, 1, 4).astype(np.float32), "w"),
            numpy_helper.from_array(np.cos(angles), "cos"),
            numpy_helper.from_array(np.sin(angles), "sin"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    feed = {"q": q, "places": np.array([[7, 0, 3]])}
    done = MemoryModel(model, secret_inputs=["q", "places"]).run(feed)
    assert done.outputs["y"] == pytest.approx(plain(model, feed)[0], abs=1e-4)


def test_indices_that_servers_would_have_to_know_are_refused() -> None:
    model = _model("GatherND", CASES[3][1])
    with pytest.raises(UnsupportedModelError, match="first input may be secret"):
        MemoryModel(model, secret_inputs=["ids"], at_client=False).plan({"ids": CASES[3][1]})
