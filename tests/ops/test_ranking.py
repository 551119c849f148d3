"""ArgMax and ArgMin, ties included, and the three pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
IMAGE = np.random.default_rng(0).normal(0, 3, (2, 3, 7, 6)).astype(np.float32)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("last", [0, 1])
def test_the_place_of_the_extreme(check: Check, op: str, axis: int, last: int) -> None:
    x = np.random.default_rng(1).integers(-2, 2, (3, 4, 5)).astype(np.float32)  # many ties
    check(compare(op, {"x": x}, axis=axis, select_last_index=last, keepdims=last), 0)


def test_places_in_long_rows_and_in_rows_of_one(check: Check) -> None:
    x = np.random.default_rng(2).normal(0, 3, (40, 97)).astype(np.float32)
    check(compare("ArgMax", {"x": x}, axis=1), 0)
    check(compare("ArgMax", {"x": x[:, :1].copy()}, axis=1), 0)
    near = np.array([[0, UNIT, 0], [2.0**20, -(2.0**20), 2.0**20 - 0.5]], np.float32)
    check(compare("ArgMax", {"x": near}, axis=1), 0)
    check(compare("ArgMax", {"secret_x": np.array([[1, 5, 5], [-3, -9, -1]])}, axis=1), 0)


POOLS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [1, 0, 1, 0], "strides": [2, 1]},
    {"strides": [2, 2], "ceil_mode": 1},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID"},
    {"dilations": [2, 1]},
]


@pytest.mark.parametrize("attributes", POOLS)
def test_pools_of_an_image(check: Check, attributes: dict[str, Any]) -> None:
    check(compare("MaxPool", {"x": IMAGE}, kernel_shape=[3, 2], **attributes), UNIT)
    check(compare("AveragePool", {"x": IMAGE}, kernel_shape=[3, 2], **attributes), 6 * UNIT)
    counted = {"kernel_shape": [3, 2], "count_include_pad": 1, **attributes}
    check(compare("AveragePool", {"x": IMAGE}, **counted), 6 * UNIT)


def test_pools_of_other_ranks(check: Check) -> None:
    check(compare("MaxPool", {"x": IMAGE[0]}, kernel_shape=[2]), UNIT)
    solid = np.random.default_rng(3).normal(0, 3, (1, 2, 4, 5, 3)).astype(np.float32)
    check(compare("MaxPool", {"x": solid}, kernel_shape=[2, 2, 2]), UNIT)
    check(compare("AveragePool", {"x": solid}, kernel_shape=[2, 2, 2]), 6 * UNIT)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 37])
@pytest.mark.parametrize("largest", [0, 1])
def test_the_best_of_a_row_in_order(check: Check, length: int, largest: int) -> None:
    x = np.random.default_rng(length).integers(-3, 3, (3, length)).astype(np.float32)  # ties: the earlier one
    k = np.array([max(1, length // 2)])
    check(compare("TopK", {"x": x, "k": k}, outputs=2, largest=largest), 0)


def test_the_best_along_another_axis_and_of_many(check: Check) -> None:
    x = np.random.default_rng(4).normal(0, 30, (4, 6, 3)).astype(np.float32)
    check(compare("TopK", {"x": x, "k": np.array([2])}, outputs=2, axis=1), UNIT / 2)
    many = np.random.default_rng(5).normal(0, 30, (25, 130)).astype(np.float32)
    check(compare("TopK", {"x": many, "k": np.array([3])}, outputs=2), UNIT / 2)
    edge = np.array([[2.0**20, -(2.0**20), 0, UNIT]], np.float32)
    check(compare("TopK", {"x": edge, "k": np.array([4])}, outputs=2), UNIT / 2)


def test_global_largest(check: Check) -> None:
    check(compare("GlobalMaxPool", {"x": IMAGE}), UNIT)


def test_global_average(check: Check) -> None:
    check(compare("GlobalAveragePool", {"x": IMAGE}), 4 * UNIT)
    check(compare("GlobalAveragePool", {"x": IMAGE[0, :, :, :1].copy()}), 4 * UNIT)


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("order", [0, 1])
def test_the_places_of_a_pool(check: Check, attributes: dict[str, Any], order: int) -> None:
    ties = np.round(IMAGE)
    check(
        compare("MaxPool", {"x": ties}, outputs=2, kernel_shape=[3, 2], storage_order=order, **attributes), 0
    )


def test_the_best_of_secret_integers(check: Check) -> None:
    x = np.array([[4, -7, 4, 100000, 0], [1, 1, -3, 1, 2]])
    check(compare("TopK", {"secret_x": x, "k": np.array([3])}, outputs=2), 0)
