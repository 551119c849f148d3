"""Thresholds that leave a number of elements of a row above them, or a share of their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.cutoff import cutoff, cutoff_cost, even_steps
from onnxpuma.mpc.simulate import shared_reals, simulate

WIDTH, LAST, BITS = 9, 1, 24


def found(x: np.ndarray, weights: np.ndarray | None, target: Any, steps: tuple[int, ...]) -> Any:
    """The thresholds of rows in units, and the run."""
    parts = [shared_reals(x, 0, WIDTH + 1)]
    if weights is not None:
        parts += [shared_reals(weights, 0, BITS), shared_reals(target, 0, BITS)]

    def program(party: Party, *values: Any) -> Protocol[Any]:
        held, wanted = (None, target) if weights is None else values[1:]
        return (yield from cutoff(party, values[0], held, wanted, steps, LAST, BITS))

    return simulate(program, *parts)


def least(x: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The largest even threshold that has enough, by trying all; zero if none has."""
    rows = []
    for row, w, wanted in zip(x, weights, target, strict=True):
        enough = [t for t in range(0, 1 << WIDTH, 1 << LAST) if w[row >= t].sum() >= wanted]
        rows.append(max(enough, default=0))
    return np.array(rows)


@pytest.mark.parametrize("steps", [(1,) * 8, (4, 4), (3, 3, 2)])
@pytest.mark.parametrize(("rows", "length"), [(1, 7), (5, 40), (1, 2000), (3, 700)])
def test_the_threshold_of_a_number_of_elements(rows: int, length: int, steps: tuple[int, ...]) -> None:
    random = np.random.default_rng(length)
    x = random.integers(0, 1 << WIDTH, (rows, length))
    for k in (1, 3, length, length + 1) if length < 100 else (3, length):
        run = found(x, None, k, steps)
        expected = least(x, np.ones_like(x), np.full(rows, k))
        assert np.array_equal(run.value(), expected)
        assert run.cost == cutoff_cost(rows, length, WIDTH + 1, False, steps, BITS)


@pytest.mark.parametrize("steps", [(1,) * 8, (4, 4)])
@pytest.mark.parametrize(("rows", "length"), [(4, 30), (1, 1800)])
def test_the_threshold_of_a_sum_of_weights(rows: int, length: int, steps: tuple[int, ...]) -> None:
    random = np.random.default_rng(length)
    x = random.integers(0, 1 << WIDTH, (rows, length))
    weights = random.integers(0, 50, (rows, length))
    for share_of_all in (0.1, 0.9, 1.0):
        target = np.floor(weights.sum(1) * share_of_all)
        run = found(x, weights, target, steps)
        assert np.array_equal(run.value(), least(x, weights, target))
        assert run.cost == cutoff_cost(rows, length, WIDTH + 1, True, steps, BITS)


def test_equal_elements_pass_together() -> None:
    x = np.array([[100, 40, 40, 40, 7]])
    assert found(x, None, 2, (4, 4)).value() == [40]


def test_steps_of_about_equal_size() -> None:
    assert even_steps(15, 4) == (4, 4, 4, 3)
    assert even_steps(15, 1) == (1,) * 15
    assert even_steps(3, 5) == (3,)
