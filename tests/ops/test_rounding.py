"""Floor, Ceil, Round and casts of secret reals to integers: exact, at the edges too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
EDGES = np.array(
    [0, UNIT, -UNIT, 0.5, -0.5, 1, -1, 1 - UNIT, UNIT - 1, 2.25, -2.25, 7, -7, 1000.75, -1000.75, 2.0**22],
    np.float64,
)


@pytest.mark.parametrize("op", ["Floor", "Ceil"])
def test_whole_numbers(check: Check, op: str) -> None:
    x = np.concatenate([EDGES, -EDGES]).astype(np.float32)
    for _ in range(5):
        check(compare(op, {"x": x}), 0)


def test_many(check: Check) -> None:
    x = (np.random.default_rng(0).integers(-(2**30), 2**30, (50, 100)) * UNIT).astype(np.float32)
    check(compare("Floor", {"x": x}), 0)
    check(compare("Cast", {"x": x}, to=7), 0)


@pytest.mark.parametrize("to", [6, 7])
def test_casts_drop_what_stands_behind_the_point(check: Check, to: int) -> None:
    x = np.concatenate([EDGES, -EDGES]).astype(np.float32)
    for _ in range(5):
        check(compare("Cast", {"x": x}, to=to), 0)


def test_casts_to_few_bits_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="would wrap"):
        compare("Cast", {"x": EDGES.astype(np.float32)}, to=2)


def test_a_half_goes_to_the_even_neighbour(check: Check) -> None:
    halves = np.array([0.5, 1.5, 2.5, 3.5, 0.25, 0.75, 1000.5, 1001.5, 2.0**20 + 0.5], np.float64)
    x = np.concatenate([halves, halves[:4] + UNIT, halves[:4] - UNIT, EDGES]).astype(np.float32)
    for _ in range(5):
        check(compare("Round", {"x": np.concatenate([x, -x])}), 0)


def test_many_to_the_nearest(check: Check) -> None:
    x = (np.random.default_rng(1).integers(-(2**30), 2**30, (50, 100)) * UNIT).astype(np.float32)
    check(compare("Round", {"x": x}), 0)
