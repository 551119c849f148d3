"""MatMul, Gemm, Conv and Einsum: every shape of operands, attributes, and public factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18


def reals(*shape: int, seed: int = 0, scale: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


SHAPES = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (7, 4, 2)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((1, 1), (1, 1)),
    ((40, 33), (33, 47)),
]


@pytest.mark.parametrize("public", [[], ["a"], ["b"]])
@pytest.mark.parametrize("shapes", SHAPES)
def test_matmul(check: Check, public: list[str], shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    feed = {"a": reals(*shapes[0]), "b": reals(*shapes[1], seed=1)}
    check(compare("MatMul", feed, public=public), 12 * UNIT)


def test_matmul_reaches_the_largest_number(check: Check) -> None:
    a, b = np.full((1, 4), 2.0**12, np.float32), np.array([[2.0**11], [-(2.0**11)], [1], [-4095]], np.float32)
    check(compare("MatMul", {"a": a, "b": b}), 8)


@pytest.mark.parametrize("public", [[], ["a"], ["b"], ["c"]])
@pytest.mark.parametrize("attributes", [{}, {"transA": 1, "transB": 1}, {"alpha": 0.25, "beta": 0.35}])
def test_gemm(check: Check, public: list[str], attributes: dict[str, Any]) -> None:
    a, b = reals(3, 4), reals(4, 5, seed=1)
    if "transA" in attributes:
        a, b = a.T.copy(), b.T.copy()
    check(compare("Gemm", {"a": a, "b": b, "c": reals(5, seed=2)}, public=public, **attributes), 12 * UNIT)


def test_gemm_without_bias(check: Check) -> None:
    check(compare("Gemm", {"a": reals(3, 4), "b": reals(4, 5, seed=1)}), 12 * UNIT)


CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"strides": [2, 1], "pads": [0, 1, 1, 0]},
    {"dilations": [2, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
]


@pytest.mark.parametrize("attributes", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_of_images(check: Check, attributes: dict[str, Any], bias: bool) -> None:
    feed = {"x": reals(2, 4, 7, 6), "w": reals(6, 4, 3, 3, seed=1), "b": reals(6, seed=2) if bias else None}
    check(compare("Conv", feed, **attributes), 15 * UNIT)


@pytest.mark.parametrize("group", [2, 4])
def test_convolution_in_groups(check: Check, group: int) -> None:
    feed = {"x": reals(2, 4, 7, 6), "w": reals(8, 4 // group, 3, 3, seed=1), "b": reals(8, seed=2)}
    check(compare("Conv", feed, public=["b"], group=group), 15 * UNIT)


def test_convolution_of_sound_and_of_solids(check: Check) -> None:
    check(compare("Conv", {"x": reals(2, 3, 20), "w": reals(5, 3, 3, seed=1)}, strides=[2]), 15 * UNIT)
    check(compare("Conv", {"x": reals(1, 2, 5, 4, 6), "w": reals(3, 2, 2, 2, 3, seed=1)}), 15 * UNIT)


@pytest.mark.parametrize("public", [[], ["a"], ["b"]])
@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,jk->k", "ij,kj->ikj", "...i,ij->...j"])
def test_einsum_of_two(check: Check, public: list[str], equation: str) -> None:
    feed = {"a": reals(4, 5), "b": reals(5, 3, seed=1)}
    if equation == "ij,kj->ikj":
        feed["b"] = reals(3, 5, seed=1)
    check(compare("Einsum", feed, public=public, equation=equation), 15 * UNIT)


@pytest.mark.parametrize("equation", ["ij->ji", "ij->", "ii->i"])
def test_einsum_of_one(check: Check, equation: str) -> None:
    check(compare("Einsum", {"a": reals(4, 4)}, equation=equation), 15 * UNIT)


def test_einsum_of_three_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="more than two operands"):
        compare("Einsum", {"a": reals(2, 2), "b": reals(2, 2), "c": reals(2, 2)}, equation="ij,jk,kl->il")
