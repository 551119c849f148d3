"""Where the result is NaN: some value is returned, and its neighbours are right."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.check.single import compare
from onnxpuma.errors import UnsupportedModelError

GOOD = np.array([0.5, 1, 2, 3.5, 7], np.float32)
BAD = {
    "Reciprocal": [0.0],
    "Log": [0.0, -1.0, -100.0],
    "Sqrt": [-1.0, -100.0],
    "Exp": [12.0, 500.0, -500.0],
    "Softplus": [-3000.0, 3000.0],
    "Sigmoid": [-5000.0, 5000.0],
}


@pytest.mark.parametrize("op", BAD)
def test_what_stands_beside_it_is_right(op: str) -> None:
    x = np.concatenate([GOOD[:2], np.array(BAD[op], np.float32), GOOD[2:]])
    done = compare(op, {"x": x})
    beside = np.isin(x, GOOD)
    assert np.isfinite(done.got).all()
    assert done.got[beside] == pytest.approx(done.want[beside], abs=3e-3, rel=1e-3)


@pytest.mark.parametrize("public", [[], ["a"]])
def test_division_by_a_secret_zero(public: list[str]) -> None:
    a, b = np.ones((2, 3), np.float32), np.array([[1, 0, 2], [0, 4, -8]], np.float32)
    done = compare("Div", {"a": a, "b": b}, public=public)
    assert np.isfinite(done.got).all()
    assert done.got[b != 0] == pytest.approx(1 / b[b != 0], abs=1e-4)


def test_powers_of_what_has_none() -> None:
    x = np.array([-2, 0, 1, 4], np.float32)
    for exponent in (0.5, -0.5, 1.5):
        done = compare("Pow", {"x": x, "n": np.float32(exponent)}, public=["n"])
        assert np.isfinite(done.got).all()
        assert done.got[2:] == pytest.approx(done.want[2:], abs=1e-3)


def test_rows_that_are_constant_are_normalised_to_nothing() -> None:
    x = np.stack([np.full(6, 3.0), np.arange(6.0), np.zeros(6)]).astype(np.float32)
    done = compare("LayerNormalization", {"x": x, "s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)})
    assert done.error < 2e-3


def test_a_public_zero_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="holds a zero"):
        compare("Div", {"a": GOOD, "b": np.float32(0)}, public=["b"])
