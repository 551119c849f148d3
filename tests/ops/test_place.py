"""ArgMax over a vocabulary: read directly from the product, at the declared cost; margin, ties, range."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.check.single import Comparison, compare, compare_model

Check = Callable[[Comparison, float], None]
VOCABULARY = 50_000


def head(columns: int, added: bool = False) -> onnx.ModelProto:
    """x (1, 1, 2) -> the index of the largest element of x W, or of x W + b."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (2, columns)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    weights = [numpy_helper.from_array(weight, "w")]
    if added:
        nodes.append(helper.make_node("Add", ["scores", "b"], ["moved"]))
        bias = np.zeros(columns, np.float32)
        bias[::2] = -8192
        weights.append(numpy_helper.from_array(bias, "b"))
    nodes.append(helper.make_node("ArgMax", [nodes[-1].output[0]], ["y"], axis=-1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, 2))],
        [helper.make_tensor_value_info("y", TensorProto.INT64, (1, 1))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


@pytest.mark.parametrize("added", [False, True])
def test_the_largest_logit_of_a_vocabulary(check: Check, added: bool) -> None:
    for x in ([3.5, -1.25], [800.0, 300.0]):
        done = compare_model(head(VOCABULARY, added), {"x": np.array(x, np.float32).reshape(1, 1, 2)})
        check(done, 0)
        (step,) = (s for s in done.outcome.plan.steps if s.operator.name == "ArgMax")
        assert step.cost.rounds == 44
        assert step.cost.bytes == 3_401_833  # 0.75 MB of it to read the product


def row(length: int, fill: float = 0.0) -> np.ndarray:
    return np.full((1, length), fill, np.float32)


def test_a_product_is_right_from_a_thousandth_on(check: Check) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        weight = rng.uniform(-30, 30, (1, 1500)).astype(np.float32)
        weight[0, rng.integers(1500)] = weight.max() + 2.0**-10
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["y"], axis=1),
        ]
        made = helper.make_graph(
            nodes,
            "margin",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1))],
            [helper.make_tensor_value_info("y", TensorProto.INT64, (1, 1))],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
        check(compare_model(model, {"x": np.ones((1, 1), np.float32)}), 0)


def test_other_reals_are_exact(check: Check) -> None:
    x = np.random.default_rng(1).normal(0, 1, (2, 1500)).astype(np.float32)
    x[:, 5] = x.max(axis=1) + 2.0**-17
    for op, values in (("ArgMax", x), ("ArgMin", -x)):
        done = compare(op, {"x": values}, axis=1)
        check(done, 0)
        assert done.outcome.cost.rounds == 28  # by fours, on the usual network
        assert done.outcome.cost.bytes / x.size < 214


def test_of_equal_elements_of_a_long_row_the_first_or_the_last(check: Check) -> None:
    x = np.random.default_rng(2).integers(-3, 3, (2, 1100)).astype(np.float32)
    for last in (0, 1):
        check(compare("ArgMax", {"x": x}, axis=1, select_last_index=last), 0)
    check(compare("ArgMax", {"x": row(1024, 0.25)}, axis=1), 0)


def test_the_range_of_a_long_row(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the format holds, and large values that differ by one."""
    monkeypatch.setattr("onnxpuma.plan.bounds.ranges.largest_input", lambda format: math.inf)
    x = row(1200, -(2.0**43) * 0.999)
    x[0, 7], x[0, 1100], x[0, 3] = 2.0**42, 2.0**42 - 2.0**19, -(2.0**42)
    check(compare("ArgMax", {"x": x}, axis=1), 0)
    x[0, 7] = 0
    check(compare("ArgMax", {"x": x}, axis=1), 0)
    x = row(1200, -4095 - 8192)
    x[0, 7], x[0, 1100], x[0, 3] = 4095, 4094, -4095
    check(compare("ArgMax", {"x": x}, axis=1), 0)
    x[0, 7] -= 8192
    check(compare("ArgMax", {"x": x}, axis=1), 0)


def test_short_rows_and_integers_are_exact(check: Check) -> None:
    x = np.random.default_rng(3).normal(0, 1, (3, 1023)).astype(np.float32)
    x[:, 5] = x.max(axis=1) + 2.0**-17
    check(compare("ArgMax", {"x": x}, axis=1), 0)
    whole = np.arange(2048).reshape(1, -1) * 3 % 2047
    check(compare("ArgMax", {"secret_x": whole}, axis=1), 0)
