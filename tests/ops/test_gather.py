"""Rows of a secret table by ids that only the client knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18


@pytest.mark.parametrize("rows", [2, 5, 64, 1000])
@pytest.mark.parametrize("ids", [(), (3,), (2, 7)])
def test_secret_ids(check: Check, rows: int, ids: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(0, 3, (rows, 6)).astype(np.float32)
    index = rng.integers(0, rows, ids)
    check(compare("Gather", {"table": table, "secret_ids": np.asarray(index, np.int64)}), UNIT)


def test_the_largest_entries_and_both_ends(check: Check) -> None:
    table = np.array([[4000.5, -4000.5], [0, UNIT], [-UNIT, 1]], np.float32)
    check(compare("Gather", {"table": table, "secret_ids": np.array([0, 2, 1, 0])}), 0)


def test_a_table_of_more_axes(check: Check) -> None:
    table = np.random.default_rng(0).normal(0, 3, (9, 2, 5)).astype(np.float32)
    check(compare("Gather", {"table": table, "secret_ids": np.array([[8, 0]])}), UNIT)


def test_rows_along_another_axis(check: Check) -> None:
    table = np.random.default_rng(1).normal(0, 3, (4, 3, 2)).astype(np.float32)
    check(compare("Gather", {"table": table, "secret_ids": np.array([1, 0])}, axis=1), UNIT)


def test_a_table_of_secret_integers(check: Check) -> None:
    table = np.random.default_rng(2).integers(-(2**28), 2**28, (7, 3))
    check(compare("Gather", {"secret_table": table, "secret_ids": np.array([6, -7, 2])}), 0)
