"""Types of a node's outputs, with concrete shapes, or a refusal."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ModelError, UnsupportedModelError
from onnxpuma.graph.infer import infer_node
from onnxpuma.graph.model import Node, ValueType

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)


def node(op: str, inputs: int = 1, domain: str = "", **attributes: Any) -> Node:
    return Node("n", op, domain, 1, tuple(f"x{k}" for k in range(inputs)), ("y",), attributes)


def floats(*shape: int | str | None) -> ValueType:
    return ValueType(FLOAT, shape)


def test_broadcast_and_matmul() -> None:
    assert infer_node(node("Add", 2), [floats(2, 1, 4), floats(3, 1)], [None, None], 24) == [floats(2, 3, 4)]
    assert infer_node(node("MatMul", 2), [floats(2, 3, 4), floats(4, 5)], [None, None], 24) == [
        floats(2, 3, 5)
    ]


def test_a_known_shape_value_is_used() -> None:
    types = [floats(2, 6), ValueType(INT, (3,))]
    assert infer_node(node("Reshape", 2), types, [None, np.array([3, -1, 2])], 24) == [floats(3, 2, 2)]
    with pytest.raises(ModelError, match="cannot be inferred"):
        infer_node(node("Reshape", 2), types, [None, None], 24)


def test_attention_and_its_absent_mask() -> None:
    attention = Node("a", "Attention", "", 24, ("q", "k", "v", None), ("y",), {"scale": 0.5})
    types = [floats(2, 3, 5, 4), floats(2, 3, 7, 4), floats(2, 3, 7, 6), None]
    assert infer_node(attention, types, [None] * 4, 24) == [floats(2, 3, 5, 6)]


def test_the_element_type_follows_the_operator() -> None:
    assert infer_node(node("Cast", to=7), [floats(2)], [None], 24) == [ValueType(INT, (2,))]
    assert infer_node(node("Shape"), [floats(2, 3)], [None], 24) == [ValueType(INT, (2,))]


def test_an_unwanted_output() -> None:
    split = Node("s", "Split", "", 18, ("x",), ("a", "", "c"), {"axis": 0, "num_outputs": 3})
    first, _, third = infer_node(split, [floats(6, 2)], [None], 24)
    assert first == third == floats(2, 2)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="does not accept"):
        infer_node(node("MatMul", 2), [floats(2, 3), floats(4, 5)], [None, None], 24)


def test_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(ModelError, match="dimension 0"):
        infer_node(node("Relu"), [floats("batch", 3)], [None], 24)


def test_an_unknown_operator() -> None:
    with pytest.raises(UnsupportedModelError, match=r"com.example::Thing"):
        infer_node(node("Thing", domain="com.example"), [floats(2)], [None], 24)


def test_it_is_fast() -> None:
    reshape, types, values = (
        node("Reshape", 2),
        [floats(2, 6), ValueType(INT, (2,))],
        [None, np.array([6, 2])],
    )
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(100):
            infer_node(reshape, types, values, 24)
        best = min(best, time.perf_counter() - start)
    assert best / 100 < 1e-3
