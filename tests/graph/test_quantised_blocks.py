"""Weights quantised in blocks of 2, 4 or 8 bits become the floats that they represent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

F = np.float32


def test_blocks_of_one_scale(random: Any, run_model: Any, nodes_model: Any, canonical: Any) -> None:
    q = random.integers(-100, 100, (8, 6)).astype(np.int8)
    scale = random.uniform(0.01, 0.02, (2, 6)).astype(F)
    x = random.normal(size=(3, 5, 8)).astype(F)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    before = nodes_model(nodes, {"x": (None, None, 8)}, {"q": q, "scale": scale})
    _, after = canonical(before)
    np.testing.assert_allclose(run_model(after, {"x": x})[0], run_model(before, {"x": x})[0], atol=1e-5)


@pytest.mark.parametrize(
    ("bits", "columns", "points"),
    [
        (4, 32, None),
        (4, 32, "packed"),
        (4, 32, "float"),
        (4, 40, "packed"),
        (8, 32, "packed"),
        (2, 64, "packed"),
    ],
)
def test_few_bits(
    random: Any, run_model: Any, bits: int, columns: int, points: str | None, nodes_model: Any, canonical: Any
) -> None:
    rows, block = 6, 16
    blocks = -(-columns // block)
    packed = random.integers(0, 256, (rows, blocks, block * bits // 8)).astype(np.uint8)
    weights = {"b": packed, "s": random.uniform(0.01, 0.1, (rows, blocks)).astype(F)}
    if points == "packed":
        weights["z"] = random.integers(0, 256, (rows, -(-blocks * bits // 8))).astype(np.uint8)
    elif points:
        weights["z"] = random.uniform(1, 3, (rows, blocks)).astype(F)
    names = ["x", "b", "s", *(["z"] if points else [])]
    sizes = {"K": columns, "N": rows, "bits": bits, "block_size": block}
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **sizes)
    before = nodes_model([node], {"x": (None, columns)}, weights)
    graph, after = canonical(before)
    assert graph.histogram() == {"MatMul": 1}
    x = {"x": random.normal(size=(3, columns)).astype(F)}
    np.testing.assert_allclose(run_model(after, x)[0], run_model(before, x)[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_a_table_in_blocks(
    random: Any, run_model: Any, bits: int, points: bool, nodes_model: Any, canonical: Any
) -> None:
    words, width, block = 10, 64, 16
    weights = {
        "t": random.integers(0, 256, (words, width * bits // 8)).astype(np.uint8),
        "s": random.uniform(0.01, 0.1, (words, width // block)).astype(F),
    }
    if points:
        weights["z"] = random.integers(0, 256, (words, width // block * bits // 8)).astype(np.uint8)
    names = ["t", "ids", "s", *(["z"] if points else [])]
    sizes = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    node = helper.make_node("GatherBlockQuantized", names, ["y"], domain="com.microsoft", **sizes)
    before = nodes_model([node], {"ids": (None, None)}, weights, kind=TensorProto.INT64)
    graph, after = canonical(before)
    assert graph.histogram() == {"Gather": 1}
    ids = {"ids": np.array([[0, 9, 3], [3, 1, 2]])}
    np.testing.assert_allclose(run_model(after, ids)[0], run_model(before, ids)[0], rtol=1e-5)
