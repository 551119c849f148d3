"""Attention: layouts, grouped heads, masks of every kind, empty rows, caches, windows, scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
TOLERANCE = 4e-4  # 1e-4 of the largest value, which is below 4


def reals(*shape: int, seed: int = 0, scale: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def heads(queries: int = 5, keys: int = 6, query_heads: int = 4, key_heads: int = 4) -> dict[str, Any]:
    return {
        "q": reals(2, query_heads, queries, 8),
        "k": reals(2, key_heads, keys, 8, seed=1),
        "v": reals(2, key_heads, keys, 10, seed=2),
    }


def masked(allowed: np.ndarray, low: float) -> np.ndarray:
    return np.where(allowed, 0, low).astype(np.float32)


SOME = np.random.default_rng(7).random((2, 1, 5, 6)) > 0.4
SOME[..., 0] = True


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_grouped_heads(check: Check, key_heads: int) -> None:
    check(compare("Attention", heads(key_heads=key_heads)), TOLERANCE)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_three_axes(check: Check, key_heads: int) -> None:
    feed = {"q": reals(2, 5, 32), "k": reals(2, 6, 8 * key_heads), "v": reals(2, 6, 10 * key_heads, seed=1)}
    check(compare("Attention", feed, q_num_heads=4, kv_num_heads=key_heads), TOLERANCE)


@pytest.mark.parametrize("scale", [0.125, 0.3, 1.0, 0.044, 0.01, 2.0**-7, 1.7])
def test_scales(check: Check, scale: float) -> None:
    check(compare("Attention", heads(), scale=scale), TOLERANCE)


def test_causal_order(check: Check) -> None:
    check(compare("Attention", heads(), is_causal=1), TOLERANCE)
    check(compare("Attention", heads(queries=7, keys=7), is_causal=1), TOLERANCE)


@pytest.mark.parametrize("shape", [(5, 6), (1, 6), (4, 5, 6), (2, 1, 5, 6), (2, 4, 5, 6)])
def test_boolean_masks(check: Check, shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(3).random(shape) > 0.4
    mask[..., 1] = True
    check(compare("Attention", {**heads(), "mask": mask}), TOLERANCE)


@pytest.mark.parametrize("low", [-np.inf, -3.4e38, -1e9, -65504, -10000])
def test_masks_to_be_added(check: Check, low: float) -> None:
    check(compare("Attention", {**heads(), "mask": masked(SOME, low)}, public=["mask"]), TOLERANCE)


@pytest.mark.parametrize("public", [["mask"], []])
def test_a_bias(check: Check, public: list[str]) -> None:
    check(compare("Attention", {**heads(), "mask": reals(4, 5, 6, seed=4)}, public=public), TOLERANCE)


def test_a_bias_and_a_mask_in_one(check: Check) -> None:
    mask = masked(SOME, -np.inf) + reals(2, 4, 5, 6, seed=4)
    check(compare("Attention", {**heads(), "mask": mask}, public=["mask"], is_causal=1), TOLERANCE)


def test_padded_keys(check: Check) -> None:
    allowed = np.arange(6) < np.array([3, 6])[:, None, None, None]
    check(compare("Attention", {**heads(), "mask": masked(allowed, -np.inf)}, public=["mask"]), TOLERANCE)
    check(compare("Attention", {**heads(), "mask": allowed}), TOLERANCE)


def test_a_row_with_nothing_allowed_gives_zeros(check: Check) -> None:
    allowed = SOME.copy()
    allowed[0, 0, 2] = False
    done = compare("Attention", {**heads(), "mask": allowed})
    assert done.outcome.cost == done.outcome.plan.cost
    assert np.abs(done.got[0, :, 2]).max() <= 2.0**-17
    rest = np.ones((2, 4, 5), bool)
    rest[0, :, 2] = False
    assert np.abs(done.got - done.want)[rest].max() <= TOLERANCE
    nothing = compare("Attention", {**heads(), "mask": np.zeros((5, 6), bool)})
    assert not nothing.got.any()


def test_a_short_mask_excludes_what_it_does_not_reach(check: Check) -> None:
    for name, mask in (("mask", np.ones((5, 4), bool)), ("bias", reals(5, 4, seed=3))):
        feed = {**heads(), name: mask}
        want = compare("Attention", {**feed, name: _padded(mask)}, public=[name])
        got = compare("Attention", feed)
        assert np.abs(got.got - want.want).max() <= TOLERANCE


def _padded(mask: np.ndarray) -> np.ndarray:
    if mask.dtype == bool:
        return np.pad(mask, [(0, 0), (0, 2)])
    return np.pad(mask, [(0, 0), (0, 2)], constant_values=-np.inf)


@pytest.mark.parametrize("causal", [0, 1])
def test_a_cache(check: Check, causal: int) -> None:
    past = {"past_k": reals(2, 4, 3, 8, seed=5), "past_v": reals(2, 4, 3, 10, seed=6)}
    check(compare("Attention", {**heads(), "mask": None, **past}, outputs=3, is_causal=causal), TOLERANCE)


def test_lengths_of_an_outside_cache(check: Check) -> None:
    filled = {"mask": None, "past_k": None, "past_v": None, "filled": np.array([3, 6])}
    check(compare("Attention", {**heads(), **filled}), TOLERANCE)
    check(compare("Attention", {**heads(queries=2), **filled}, is_causal=1), TOLERANCE)


@pytest.mark.parametrize("windows", [(2, 1), (-1, 0), (0, -1), (1, -1)])
def test_windows(check: Check, windows: tuple[int, int]) -> None:
    left, right = windows
    done = compare("Attention", heads(), opset=25, left_window_size=left, right_window_size=right)
    check(done, TOLERANCE)


@pytest.mark.parametrize("cap", [2.0, 30.0])
def test_softcap(check: Check, cap: float) -> None:
    check(compare("Attention", heads(), softcap=cap), TOLERANCE + 2e-3 * cap)
    check(compare("Attention", heads(), softcap=cap, is_causal=1, scale=1.0), TOLERANCE + 2e-3 * cap)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("attributes", [{}, {"softcap": 2.0}, {"scale": 0.3}, {"scale": 0.1, "softcap": 1.5}])
def test_the_scores_that_it_shows(check: Check, mode: int, attributes: dict[str, float]) -> None:
    feed = {**heads(), "mask": reals(4, 5, 6, seed=4)}
    tolerance = TOLERANCE + 2e-3 * attributes.get("softcap", 0)
    done = compare("Attention", feed, outputs=4, qk_matmul_output_mode=mode, **attributes)
    assert done.outcome.cost == done.outcome.plan.cost
    assert np.abs(done.all_got[3] - done.all_want[3]).max() <= tolerance
    assert np.abs(done.all_got[0] - done.all_want[0]).max() <= tolerance


def test_the_scores_of_excluded_positions(check: Check) -> None:
    done = compare("Attention", {**heads(), "mask": SOME}, outputs=4, qk_matmul_output_mode=3)
    check(done, TOLERANCE)
    with pytest.raises(UnsupportedModelError, match="minus infinity"):
        compare("Attention", {**heads(), "mask": SOME}, outputs=4, qk_matmul_output_mode=2)


def test_scores_of_some_hundreds(check: Check) -> None:
    feed = heads()
    feed["q"] *= 40
    check(compare("Attention", feed, scale=1.0), TOLERANCE)


def test_many_heads_spread_over_the_pivots(check: Check) -> None:
    feed = {"q": reals(1, 8, 16, 16), "k": reals(1, 8, 16, 16, seed=1), "v": reals(1, 8, 16, 16, seed=2)}
    check(compare("Attention", feed, is_causal=1), TOLERANCE)
    check(compare("Attention", feed, public=["v"]), TOLERANCE)


def test_one_query_and_one_key(check: Check) -> None:
    check(compare("Attention", heads(queries=1, keys=1)), TOLERANCE)


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="scale is not positive"):
        compare("Attention", heads(), scale=-1.0)
