"""Normalisations: tiny variances, outliers, constant rows, every axis, small and large epsilons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.single import Comparison, compare

Check = Callable[[Comparison, float], None]


def reals(*shape: int, mean: float = 0, scale: float = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-2])
@pytest.mark.parametrize("public", [[], ["scale"]])
def test_rows(check: Check, op: str, epsilon: float, public: list[str]) -> None:
    inputs = {"x": reals(4, 9, 32, mean=1, scale=2), "scale": reals(32, mean=1, scale=0.3, seed=1)}
    if op == "LayerNormalization":
        inputs["bias"] = reals(32, seed=2)
    check(compare(op, inputs, public=public, epsilon=epsilon), 1e-4)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_axes(check: Check, op: str, axis: int) -> None:
    x = reals(3, 4, 5)
    check(compare(op, {"x": x, "scale": reals(*x.shape[axis:], seed=1)}, axis=axis), 1e-4)


def test_more_rows_than_one_pivot_leads(check: Check) -> None:
    check(compare("LayerNormalization", {"x": reals(130, 20), "scale": np.ones(20, np.float32)}), 1e-4)


def test_a_tiny_variance(check: Check) -> None:
    x = reals(6, 64, mean=0.5, scale=0.02)
    check(compare("LayerNormalization", {"x": x, "scale": np.ones(64, np.float32)}, epsilon=1e-12), 2e-3)


def test_large_outliers(check: Check) -> None:
    x = reals(4, 256, scale=2)
    x[:, 7] = 3000
    check(compare("LayerNormalization", {"x": x, "scale": np.ones(256, np.float32)}), 1e-4)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("largest", [4095.0, 6000.0, 2e4, 2e5, 1e6])
def test_a_row_of_any_norm_beside_small_ones(check: Check, op: str, largest: float) -> None:
    """As language models have: one row with a huge element, the others a thousandth of it."""
    x = reals(120, 64, scale=0.3)
    x[::7, 5] = largest
    done = compare(op, {"x": x, "scale": np.ones(64, np.float32)})
    check(done, 1e-4 if largest < 5e3 else 5e-4 if largest < 3e4 else 3e-3)


def test_images_of_large_norm(check: Check) -> None:
    inputs = {"x": reals(1, 4, 64, 64, scale=90), "scale": reals(4, seed=1), "bias": reals(4, seed=2)}
    check(compare("GroupNormalization", inputs, num_groups=2), 2e-4)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
def test_constant_rows_come_out_near_zero(epsilon: float) -> None:
    x = np.full((3, 48), 2.7, np.float32)
    done = compare("LayerNormalization", {"x": x, "scale": np.ones(48, np.float32)}, epsilon=epsilon)
    assert np.abs(done.got).max() <= (5e-3 if epsilon == 1e-5 else 0.1)


def test_mean_and_deviation(check: Check) -> None:
    inputs = {"x": reals(4, 9, scale=3), "scale": reals(9, seed=1), "bias": reals(9, seed=2)}
    check(compare("LayerNormalization", inputs, outputs=3), 1e-4)
    check(compare("LayerNormalization", inputs, outputs=2), 1e-4)


@pytest.mark.parametrize("public", [[], ["scale", "bias"]])
def test_instance_and_group_normalisation(check: Check, public: list[str]) -> None:
    inputs = {"x": reals(2, 4, 6, 5, mean=1, scale=3), "scale": reals(4, seed=1), "bias": reals(4, seed=2)}
    check(compare("InstanceNormalization", inputs, public=public), 1e-4)
    for groups in (1, 2, 4):
        check(compare("GroupNormalization", inputs, public=public, num_groups=groups), 1e-4)


@pytest.mark.parametrize("public", [[], ["scale", "bias", "mean", "variance"]])
def test_batch_normalisation(check: Check, public: list[str]) -> None:
    parts = {n: reals(4, seed=i) for i, n in enumerate(("scale", "bias", "mean", "variance"))}
    parts["variance"] = np.abs(parts["variance"]) + 0.05
    check(
        compare("BatchNormalization", {"x": reals(2, 4, 6, 5, mean=1, scale=3), **parts}, public=public), 1e-4
    )
    check(compare("BatchNormalization", {"x": reals(7, 4), **parts}, public=public), 1e-4)


def test_training_is_refused() -> None:
    parts = {n: np.ones(4, np.float32) for n in ("scale", "bias", "mean", "variance")}
    with pytest.raises(UnsupportedModelError, match="training mode"):
        compare("BatchNormalization", {"x": reals(2, 4, 3), **parts}, outputs=3, training_mode=1)
