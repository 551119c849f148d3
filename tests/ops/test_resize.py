"""Resize and transposed convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


MODES: list[dict[str, Any]] = [
    {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "cubic", "cubic_coeff_a": -0.5},
]


@pytest.mark.parametrize("attributes", MODES)
def test_resize_by_scales_and_to_sizes(check: Check, attributes: dict[str, Any]) -> None:
    x, scales = reals(1, 2, 4, 5), np.array([1, 1, 2, 1.5], np.float32)
    check(compare("Resize", {"x": x, "r": None, "s": scales}, public=["s"], **attributes), 6 * UNIT)
    sizes = np.array([1, 2, 3, 9])
    check(compare("Resize", {"x": x, "r": None, "s": None, "n": sizes}, **attributes), 6 * UNIT)


def test_nearest_is_free(check: Check) -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    done = compare("Resize", {"x": reals(1, 2, 4, 5), "r": None, "s": scales}, public=["s"])
    check(done, UNIT)
    assert done.outcome.cost.bits == 0


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_number_outside_of_the_image(check: Check, mode: str) -> None:
    region, sizes = np.array([0, -0.5, 1.5, 1], np.float32), np.array([3, 5])
    attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 10.0}
    feed = {"x": reals(4, 4), "r": region, "s": None, "n": sizes}
    done = compare("Resize", feed, public=["r"], mode=mode, **attributes)
    assert (done.want == 10).sum() > 4
    check(done, 6 * UNIT)


def test_secret_scales_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="node"):
        compare("Resize", {"x": reals(4, 4), "r": None, "s": np.ones(2, np.float32)})


TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"strides": [3, 2]},
    {"pads": [1, 1, 1, 0], "strides": [2, 2]},
    {"dilations": [2, 1]},
    {"strides": [3, 2], "output_padding": [1, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"strides": [3, 2], "output_shape": [12, 9]},
]


@pytest.mark.parametrize("attributes", TRANSPOSED)
@pytest.mark.parametrize("public", [[], ["b"]])
def test_transposed_convolution(check: Check, attributes: dict[str, Any], public: list[str]) -> None:
    feed = {"x": reals(2, 3, 4, 4), "w": reals(3, 5, 3, 3, seed=1), "b": reals(5, seed=2)}
    check(compare("ConvTranspose", feed, public=public, **attributes), 15 * UNIT)


def test_transposed_convolution_in_groups_and_other_ranks(check: Check) -> None:
    feed = {"x": reals(2, 4, 6), "w": reals(4, 3, 3, seed=1)}
    check(compare("ConvTranspose", feed, group=2, strides=[2]), 15 * UNIT)
    solid = {"x": reals(1, 2, 3, 3, 2), "w": reals(2, 2, 2, 2, 2, seed=1)}
    check(compare("ConvTranspose", solid), 15 * UNIT)
