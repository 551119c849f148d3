"""An operator without a kernel runs as the function by which the standard defines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
X = np.random.default_rng(0).normal(0, 3, (4, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "attributes", "tolerance"),
    [
        ("Softsign", {}, 2e-5),
        ("ThresholdedRelu", {"alpha": 0.7}, 1e-5),
        ("Shrink", {"lambd": 0.5, "bias": 0.25}, 1e-5),
        ("LogSoftmax", {"axis": -1}, 5e-5),
        ("LogSoftmax", {"axis": 0}, 5e-5),
        ("ReduceLogSumExp", {}, 5e-5),
        ("MeanVarianceNormalization", {"axes": [0]}, 1e-3),
    ],
)
def test_functions(check: Check, op: str, attributes: dict[str, Any], tolerance: float) -> None:
    check(compare(op, {"x": X}, **attributes), tolerance)


def test_an_operator_that_is_no_function_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match="no secure kernel for Asin"):
        compare("Asin", {"x": X})


ONE_HOT = {"d": np.array(4), "v": np.array([0.5, 2.0], np.float32)}
PAST = np.random.default_rng(1).normal(size=(2, 3, 5, 4)).astype(np.float32)
NEW = PAST[:, :, :2] * 2


@pytest.mark.parametrize("axis", [-1, 0])
def test_hardmax(check: Check, axis: int) -> None:
    check(compare("Hardmax", {"x": X}, axis=axis), 0)
    check(compare("Hardmax", {"x": np.array([[1, 3, 3, 2], [4, 4, 4, 4]], np.float32)}), 0)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_one_hot(check: Check, axis: int, kind: Any) -> None:
    places = np.array([[0, 2, -1], [3, -4, 9]], kind)
    check(compare("OneHot", {"secret_i": places, **ONE_HOT}, public=["v"], axis=axis), 0)


def test_one_hot_of_reals_and_in_whole_numbers(check: Check) -> None:
    whole = {"d": np.array([4]), "v": np.array([0, 7])}
    check(compare("OneHot", {"x": np.array([0, 2, 1], np.float32), **whole}), 0)


@pytest.mark.parametrize(("p", "axis"), [(1, -1), (1, 0), (2, -1), (2, 0), (2, 1)])
@pytest.mark.parametrize("size", [1e-2, 1, 5e4])
def test_lp_normalisation(check: Check, p: int, axis: int, size: float) -> None:
    check(compare("LpNormalization", {"x": X * np.float32(size)}, p=p, axis=axis), 1e-3)


@pytest.mark.parametrize("p", [1, 2])
def test_a_row_of_zeros_has_no_direction(check: Check, p: int) -> None:
    x = X * np.array([[0], [1], [1], [0]], np.float32)
    check(compare("LpNormalization", {"x": x}, p=p), 4e-3)


@pytest.mark.parametrize(
    ("starts", "attributes"),
    [([1, 3], {}), ([4, 2], {"mode": "circular"}), (None, {}), ([0, 3], {"mode": "circular"})],
)
def test_tensor_scatter(check: Check, starts: Any, attributes: dict[str, str]) -> None:
    start = None if starts is None else np.array(starts)
    check(compare("TensorScatter", {"p": PAST, "u": NEW, "w": start}, **attributes), 1e-5)
    flat = {"p": PAST[:, 0], "u": NEW[:, 0], "w": start}
    check(compare("TensorScatter", flat, axis=1, **attributes), 1e-5)
