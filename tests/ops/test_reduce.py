"""Reductions: every choice of axes, kept or not, secret integers, and refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
TOLERANCES = {
    "ReduceSum": 100 * UNIT,
    "ReduceMean": 4 * UNIT,
    "ReduceMax": UNIT,
    "ReduceMin": UNIT,
    "ReduceL1": 100 * UNIT,
    "ReduceL2": 30 * UNIT,
    "ReduceSumSquare": 2000 * UNIT,
}
X = np.random.default_rng(0).normal(0, 5, (3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("op", TOLERANCES)
@pytest.mark.parametrize("axes", [None, [1], [-1, 0], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(check: Check, op: str, axes: list[int] | None, keepdims: int) -> None:
    inputs = {"x": X, "axes": None if axes is None else np.array(axes)}
    check(compare(op, inputs, keepdims=keepdims), TOLERANCES[op])


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceSumSquare"])
def test_axes_as_an_attribute(check: Check, op: str) -> None:
    opset = 12 if op == "ReduceSum" else 13
    check(compare(op, {"x": X}, opset=opset, axes=[1]), TOLERANCES[op])


def test_no_axes_and_nothing_to_do(check: Check) -> None:
    check(compare("ReduceSum", {"x": X, "axes": None}, noop_with_empty_axes=1), UNIT)


@pytest.mark.parametrize("axes", [None, [1], [-1, 0]])
def test_products(check: Check, axes: list[int] | None) -> None:
    x = np.random.default_rng(3).uniform(-1.5, 1.5, (2, 3, 5)).astype(np.float32)
    check(compare("ReduceProd", {"x": x, "axes": None if axes is None else np.array(axes)}), 2e-3)


def test_log_sum(check: Check) -> None:
    check(compare("ReduceLogSum", {"x": np.abs(X) + 1, "axes": np.array([1])}), 4 * UNIT)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMin"])
def test_secret_integers(check: Check, op: str) -> None:
    values = np.random.default_rng(1).integers(-1000, 1000, (3, 7))
    check(compare(op, {"secret_x": values, "axes": np.array([1])}), 0)


def test_long_rows(check: Check) -> None:
    x = np.random.default_rng(2).normal(0, 5, (2, 3001)).astype(np.float32)
    check(compare("ReduceMax", {"x": x, "axes": np.array([1])}), UNIT)
    check(compare("ReduceMean", {"x": x, "axes": np.array([1])}), 4 * UNIT)


def test_extremes_at_the_edge_of_the_range(check: Check) -> None:
    x = np.array([[2.0**22, -(2.0**22), 0], [UNIT, 0, -UNIT], [-1, -1, -1]], np.float32)
    check(compare("ReduceMax", {"x": x, "axes": np.array([1])}), 0)
    check(compare("ReduceMin", {"x": x, "axes": np.array([1])}), 0)
    check(compare("ReduceMax", {"x": x[:, :1].copy(), "axes": np.array([1])}), 0)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceProd"])
def test_the_sum_of_nothing_is_zero_and_the_product_one(check: Check, op: str) -> None:
    check(compare(op, {"x": np.zeros((2, 0, 3), np.float32), "axes": np.array([1])}), UNIT)
    with pytest.raises(UnsupportedModelError, match="reduces nothing"):
        compare("ReduceMin", {"x": np.zeros((2, 0, 3), np.float32), "axes": np.array([1])})


def test_secret_axes_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="axes are secret"):
        compare("ReduceSum", {"x": X, "secret_axes": np.array([1])})


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 300.0, 1e4, 1e5])
def test_lengths_of_any_size(check: Check, scale: float) -> None:
    x = np.random.default_rng(2).normal(0, scale, (4, 5, 6)).astype(np.float32)
    for axes in ([0], [-1], [1, 2]):
        done = compare("ReduceL2", {"x": x, "axes": np.array(axes)})
        check(done, 4 * UNIT + 2e-5 * float(np.abs(done.want).max()))
