"""Exp and Log over their ranges, and the activations built from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18


def on_grid(values: np.ndarray) -> np.ndarray:
    return (np.rint(values / UNIT) * UNIT).astype(np.float32)


@pytest.mark.parametrize("count", [300, 1700])
def test_exp_has_a_relative_error(count: int) -> None:
    x = on_grid(np.random.default_rng(0).uniform(-25, 29.7, count))
    x[:4] = -20, 29.79, 0, UNIT
    done = compare("Exp", {"x": x})
    assert done.outcome.cost == done.outcome.plan.cost
    excess = np.abs(done.got - done.want) - 1.5e-5 * done.want
    assert excess.max() <= 2 * UNIT


def test_exp_saturates(check: Check) -> None:
    done = compare("Exp", {"x": np.array([-1e6, -100, 30, 80, 1e6], np.float32)})
    assert np.abs(done.got[:2]).max() <= 2 * UNIT
    assert np.abs(done.got[2:] / 2.0**43 - 1).max() <= 6e-3


def test_log_over_the_whole_format() -> None:
    x = on_grid(np.maximum(2.0 ** np.random.default_rng(1).uniform(-18, 40, 200), UNIT))
    x[:4] = UNIT, 1, 2.0**40, 0.25
    done = compare("Log", {"x": x})
    assert done.outcome.cost == done.outcome.plan.cost
    assert np.abs(done.got - np.log(x.astype(np.float64))).max() <= 3 * UNIT


@pytest.mark.parametrize(
    ("op", "attributes"), [("Elu", {}), ("Elu", {"alpha": 0.3}), ("Selu", {}), ("Celu", {"alpha": 2.0})]
)
def test_exponentials_below_zero(check: Check, op: str, attributes: dict[str, float]) -> None:
    x = np.concatenate([np.linspace(-30, 30, 121), [-500, 500]]).astype(np.float32)
    check(compare(op, {"x": x}, **attributes), 1e-4)


def test_celu_refuses_a_negative_alpha() -> None:
    with pytest.raises(UnsupportedModelError, match="alpha is not positive"):
        compare("Celu", {"x": np.ones(2, np.float32)}, alpha=-1.0)
