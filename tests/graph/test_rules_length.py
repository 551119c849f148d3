"""Roots of sums of squares are recognised, with an epsilon and without; other roots are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
int64[1] a = {0}, int64[1] b = {1}, int64[2] ab = {0, 1}, float eps = {0.01}, float tiny = {0.000000000001},
float fifth = {0.2}
"""
MEAN = "m = ReduceMean(x, b) d = Sub(x, m) q = Mul(d, d)"


def model(body: str, shape: str) -> str:
    return f"g (float[{shape}] x) => (float[u, w] y) <{NUMBERS}> {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.normal(0.3, 0.2, (6, 5)).astype(np.float32)}


@pytest.mark.parametrize("shape", ["6, 5", "n, k"])
@pytest.mark.parametrize(
    "body",
    [
        f"{MEAN} v = ReduceMean(q, b) y = Sqrt(v)",
        f"{MEAN} v = ReduceMean(q, b) e = Add(v, tiny) y = Sqrt(e)",
        f"{MEAN} v = ReduceSum(q, a) w0 = Mul(v, fifth) y = Sqrt(w0)",
        "q = Mul(x, x) v = ReduceSum(q, ab) y = Sqrt(v)",
        "v = ReduceSumSquare(x, b) e = Add(v, eps) y = Sqrt(e)",
        f"{MEAN} v = ReduceMean(q, b) e = Clip(v, tiny) y = Sqrt(e)",
    ],
)
def test_a_length(rewritten: Any, x: dict[str, np.ndarray], shape: str, body: str) -> None:
    _, report = rewritten(model(body, shape), x)
    assert report.after["ReduceL2"] == 1
    assert not {"ReduceSum", "ReduceSumSquare"} & set(report.after)


@pytest.mark.parametrize(("shape", "found"), [("6, 5", 1), ("n, k", 0)])
def test_an_epsilon_beside_a_mean_needs_its_count(
    rewritten: Any, x: dict[str, np.ndarray], shape: str, found: int
) -> None:
    _, report = rewritten(model(f"{MEAN} v = ReduceMean(q, b) e = Add(v, eps) y = Sqrt(e)", shape), x)
    assert report.after.get("ReduceL2", 0) == report.after.get("Pad", 0) == found


@pytest.mark.parametrize(
    "body",
    ["q = Abs(x) v = ReduceSum(q, b) y = Sqrt(v)", "w0 = Abs(x) q = Mul(x, w0) z = Abs(q) y = Sqrt(z)"],
)
def test_another_root_is_left(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body, "6, 5"), x)
    assert "ReduceL2" not in report.after


@pytest.mark.parametrize(("shape", "found"), [("6, 5", 1), ("n, k", 0)])
def test_in_another_shape(rewritten: Any, x: dict[str, np.ndarray], shape: str, found: int) -> None:
    body = "v = ReduceSumSquare<keepdims = 0>(x, b) w0 = Unsqueeze(v, a) y = Sqrt(w0)"
    _, report = rewritten(model(body, shape), x)
    assert report.after.get("ReduceL2", 0) == found
