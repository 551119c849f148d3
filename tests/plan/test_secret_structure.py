"""Secret constants that would decide the computation are refused, with the input's name and a remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.errors import UnsupportedModelError

Nodes = list[onnx.NodeProto]

WIDTH = 16
X = np.arange(4 * WIDTH, dtype=np.float32).reshape(4, WIDTH)
WEIGHT = (np.eye(WIDTH) * 0.37 + 0.01).astype(np.float32)
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["v"])


def decided(op: str, inputs: str, value: Any, *outputs: str, **attributes: Any) -> tuple[Nodes, np.ndarray]:
    node = helper.make_node(op, inputs.split(), ["y", *outputs], name="node", **attributes)
    return [PRODUCT, node], np.asarray(value)


STRUCTURE = {
    "a shape": decided("Reshape", "v c", [2, 2 * WIDTH]),
    "a larger shape": decided("Expand", "v c", [2, 4, WIDTH]),
    "indices": decided("Gather", "v c", [3, 1]),
    "places": decided("GatherND", "v c", [[3, 1]]),
    "a start": decided("Slice", "v c c2", [1]),
    "axes": decided("ReduceSum", "v c", [1]),
    "an axis": decided("Unsqueeze", "v c", [1]),
    "how many": decided("TopK", "v c", [3], "places"),
    "pads": decided("Pad", "v c", [1, 0, 0, 1]),
    "repeats": decided("Tile", "v c", [1, 2]),
    "pieces": decided("Split", "v c", [6, 10], "rest", axis=1),
    "a diagonal": decided("Trilu", "v c", 1),
    "an axis to sum along": decided("CumSum", "v c", 1),
}


@pytest.mark.parametrize("kind", STRUCTURE)
def test_the_input_and_the_way_out_are_named(on_shares: Any, kind: str) -> None:
    nodes, value = STRUCTURE[kind]
    constants = {"w": WEIGHT, "c": value, "c2": np.array([3])}
    read = {name for node in nodes for name in node.input}
    held = {name: v for name, v in constants.items() if name in read}
    with pytest.raises(UnsupportedModelError) as caught:
        on_shares(nodes, held, {"x": X}, secret=["c"])
    assert f"({nodes[1].op_type}, opset" in caught.value.message
    assert "its input 'c' is a secret constant: --public shows it" in caught.value.message
    assert on_shares(nodes, held, {"x": X}, secret=["w"]).error < 1e-4


def test_scales_of_a_picture(on_shares: Any) -> None:
    nodes = [helper.make_node("Resize", ["x", "", "c"], ["y"], name="node", mode="nearest")]
    scales = np.array([1, 1, 2, 2], np.float32)
    with pytest.raises(UnsupportedModelError, match="input 'c' is a secret constant"):
        on_shares(nodes, {"c": scales}, {"x": X.reshape(1, 1, 4, WIDTH)}, secret=["c"], at_client=False)


def test_data_is_no_structure(on_shares: Any) -> None:
    nodes = [helper.make_node("Mod", ["v", "w"], ["y"], name="node", fmod=1)]
    with pytest.raises(UnsupportedModelError) as caught:
        on_shares([PRODUCT, *nodes], {"w": WEIGHT}, {"x": X[:, :WIDTH].repeat(4, 0)}, secret=["w"])
    assert "--public" not in caught.value.message
