"""Reciprocals, roots, quotients with a secret divisor and powers, over the whole documented range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18


def on_grid(values: np.ndarray) -> np.ndarray:
    """Numbers that fixed point represents exactly, so that only the operator's error is measured."""
    return (np.rint(values / UNIT) * UNIT).astype(np.float32)


def spread_out(low: float, high: float, count: int = 60, seed: int = 0) -> np.ndarray:
    """Numbers of every magnitude from 2^low to 2^high, both included."""
    exponents = np.random.default_rng(seed).uniform(low, high, count)
    exponents[:2] = low, high
    return on_grid(np.maximum(2.0**exponents, UNIT))


def within(done: Comparison, relative: float, units: float) -> None:
    assert done.outcome.cost == done.outcome.plan.cost
    excess = np.abs(done.got.astype(np.float64) - done.want) - relative * np.abs(done.want)
    assert excess.max() <= units * UNIT


def signed(values: np.ndarray) -> np.ndarray:
    return values * np.random.default_rng(1).choice([-1, 1], values.shape).astype(np.float32)


def test_reciprocal() -> None:
    within(compare("Reciprocal", {"x": signed(spread_out(-18, 14.9))}), 4e-6, 3)


def test_square_root() -> None:
    within(compare("Sqrt", {"x": spread_out(-18, 14)}), 2e-6, 10)
    x = spread_out(-18, 27.9)
    done = compare("Sqrt", {"x": x})
    assert np.all(np.abs(done.got - done.want) <= 2e-6 * done.want + 4e-9 * x + 1.5 * UNIT)
    assert compare("Sqrt", {"x": np.zeros(3, np.float32)}).got == pytest.approx(np.zeros(3), abs=UNIT)


def test_large_operands_are_spread() -> None:
    x = spread_out(-2, 4, 1600)
    within(compare("Sqrt", {"x": x}), 2e-6, 1.5)


@pytest.mark.parametrize("public", [[], ["a"]])
def test_a_quotient_by_a_secret(public: list[str]) -> None:
    a = on_grid(np.random.default_rng(2).normal(0, 5, (4, 60)))
    b = signed(spread_out(-6, 14.9))
    done = compare("Div", {"a": a, "b": b}, public=public)
    if public:  # then the reciprocal itself has eighteen fraction bits
        assert np.all(
            np.abs(done.got - done.want) <= 4e-6 * np.abs(done.want) + 3 * UNIT * np.maximum(np.abs(a), 1)
        )
    else:
        within(done, 4e-6, 3)


def test_a_quotient_by_one_number(check: Check) -> None:
    check(compare("Div", {"a": np.ones((3, 2), np.float32), "b": np.float32(8)}), 2 * UNIT)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 7])
def test_whole_powers(exponent: int) -> None:
    x = on_grid(np.random.default_rng(3).uniform(-3, 3, (5, 4)))
    within(compare("Pow", {"x": x, "n": np.float32(exponent)}, public=["n"]), 1e-5, 30)


@pytest.mark.parametrize("exponent", [-1, -2, 0.5, -0.5])
def test_roots_and_negative_powers(exponent: float) -> None:
    x = spread_out(-5, 6)
    within(compare("Pow", {"x": x, "n": np.float32(exponent)}, public=["n"]), 3e-6 * 2**4, 3)


def test_an_exponent_for_each_element() -> None:
    x = on_grid(np.random.default_rng(3).uniform(-3, 3, (5, 4)))
    within(compare("Pow", {"x": x, "n": np.array([0, 1, 2, 5], np.float32)}, public=["n"]), 1e-5, 30)
    within(compare("Pow", {"x": x, "n": np.array([0, 1, 2, 5])}), 1e-5, 30)


@pytest.mark.parametrize("public", [[], ["n"], ["x"]])
@pytest.mark.parametrize("exponent", [1.7, -0.3, 0.0, 2.0])
def test_any_power_of_a_positive_number(public: list[str], exponent: float) -> None:
    x = spread_out(-4, 5)
    within(compare("Pow", {"x": x, "n": np.float32(exponent)}, public=public), 2e-5, 5)


def test_an_arbitrary_exponent_for_each_element() -> None:
    rng = np.random.default_rng(5)
    x, n = on_grid(rng.uniform(0.1, 8, (5, 4))), on_grid(rng.normal(0, 2, 4))
    within(compare("Pow", {"x": x, "n": n}, public=["n"]), 3e-5, 5)
    within(compare("Pow", {"x": x, "n": n}), 3e-5, 5)


def test_exponents_that_are_refused() -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(UnsupportedModelError, match="not a number"):
        compare("Pow", {"x": x, "n": np.float32(np.nan)}, public=["n"])


@pytest.mark.parametrize("divisor", [1e-2, 1.0, 1e3, 1e6, 1.6e7])
@pytest.mark.parametrize("quotient", [0.01, 3.0, 1e4])
def test_quotients_of_any_size(divisor: float, quotient: float) -> None:
    random = np.random.default_rng(6)
    b = (random.uniform(0.5, 1, (8, 1)) * divisor * random.choice([-1, 1], (8, 1))).astype(np.float32)
    a = (random.normal(size=(8, 5)) * quotient * divisor).astype(np.float32)
    a, b = (np.rint(v * 2**18) / 2**18 for v in (a.astype(np.float64), b.astype(np.float64)))
    done = compare("Div", {"a": a.astype(np.float32), "b": b.astype(np.float32)})
    assert done.outcome.cost == done.outcome.plan.cost
    exact = a.astype(np.float32).astype(np.float64) / b.astype(np.float32)
    assert (np.abs(done.got - exact) <= 4 * 2.0**-18 + 1e-5 * np.abs(exact)).all()
