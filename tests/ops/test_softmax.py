"""Softmax: every axis, rows of one, equal scores, very low ones, and one that dominates the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare

Check = Callable[[Comparison, float], None]


def reals(*shape: int, scale: float = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_axes(check: Check, axis: int) -> None:
    check(compare("Softmax", {"x": reals(3, 5, 4)}, axis=axis), 1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 2), (2, 3), (7, 129), (40, 50), (2000, 3), (1, 2500)])
def test_sizes(check: Check, shape: tuple[int, ...]) -> None:
    check(compare("Softmax", {"x": reals(*shape)}), 1e-4)


def test_equal_scores(check: Check) -> None:
    check(compare("Softmax", {"x": np.zeros((3, 11), np.float32)}), 1e-4)
    check(compare("Softmax", {"x": np.full((3, 64), -480, np.float32)}), 1e-4)


@pytest.mark.parametrize("height", [0.25, 8, 100, 500, -500])
def test_one_score_far_from_the_rest(check: Check, height: float) -> None:
    x = reals(4, 9, scale=1)
    x[:, 5] = height
    check(compare("Softmax", {"x": x}), 1e-4)


def test_very_low_scores(check: Check) -> None:
    x = reals(5, 12)
    x[:, ::2] -= np.array([12, 14.5, 15, 16, 400], np.float32)[:, None]
    done = compare("Softmax", {"x": x})
    check(done, 1e-4)
    assert np.abs(done.got.sum(axis=-1) - 1).max() <= 2e-4


def test_many_random_rows(check: Check) -> None:
    check(compare("Softmax", {"x": reals(300, 17, scale=6)}), 1e-4)


@pytest.mark.parametrize("below", [14.0, 15.5, 30.0])
def test_a_long_row_of_which_nearly_all_lies_far_below(below: float) -> None:
    """Scores that count as zero would have added at most n e^-14, as the operator declares."""
    x = np.full((2, 20_000), -below, np.float32)
    x[0, 7] = x[1, 19_999] = 0
    done = compare("Softmax", {"x": x})
    step = done.outcome.plan.steps[-1]
    assert done.error <= step.operator.error_of(step.call) < 0.02
    assert done.error < (2e-3 if below == 30 else 0.02)
