"""Scatter with every reduction, repeated updates of one element, and every choice of secret operands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
X = (np.random.default_rng(0).integers(-40, 40, (3, 4)) / 16).astype(np.float32)
ROWS = np.array([[1], [1], [-1], [0]])
UPDATES = np.concatenate([X, -X[:, ::-1] / 2])[:4]
PLACES = np.array([[2, 0, 1, 2], [2, -3, 0, 0]])


@pytest.mark.parametrize("public", ["", "x", "u"])
@pytest.mark.parametrize(("reduction", "tolerance"), [("add", 0), ("max", 0), ("min", 0), ("mul", 8 * UNIT)])
def test_updates_meet_what_is_there(check: Check, reduction: str, tolerance: float, public: str) -> None:
    feed = {"x": X, "i": ROWS, "u": UPDATES}
    check(compare("ScatterND", feed, public=[public], reduction=reduction), tolerance)
    feed = {"x": X[0], "i": PLACES[0], "u": X[1]}
    check(compare("ScatterElements", feed, public=[public], reduction=reduction), tolerance)
    feed = {"x": X, "i": PLACES, "u": X[1:]}
    check(compare("ScatterElements", feed, public=[public], reduction=reduction), tolerance)


@pytest.mark.parametrize("reduction", ["none", "add", "max", "mul"])
def test_secret_integers(check: Check, reduction: str) -> None:
    feed = {"secret_x": np.arange(12).reshape(3, 4), "i": ROWS, "secret_u": np.arange(16).reshape(4, 4) - 7}
    check(compare("ScatterND", feed, reduction=reduction), 0)


def test_no_update_at_all(check: Check) -> None:
    feed = {"x": X, "i": np.zeros((0, 1), np.int64), "u": X[:0]}
    for reduction in ("add", "max"):
        check(compare("ScatterND", feed, reduction=reduction), 0)


def test_secret_indices_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="indices are secret"):
        compare("ScatterND", {"x": X, "secret_i": ROWS, "u": UPDATES})
