"""Softmax and logarithms of sums of exponentials are recognised; lookalikes are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
int64[1] last = {-1}, int64[1] first = {0}, int64[2] both = {0, 1}, float one = {1},
float small = {0.00000001}, float half = {0.5}, float two = {2}
"""
LESS_MAX = "m = ReduceMax(x, last) z = Sub(x, m)"


def model(body: str, result: str = "float[a, b] y") -> str:
    return f"g (float[n, 6] x) => ({result}) <{NUMBERS}> {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.normal(0, 3, (3, 6)).astype(np.float32)}


@pytest.mark.parametrize(
    "body",
    [
        "e = Exp(x) s = ReduceSum(e, last) y = Div(e, s)",
        "e = Exp(x) s = ReduceSum(e, last) r = Reciprocal(s) y = Mul(r, e)",
        "e = Exp(x) s = ReduceSum<keepdims = 0>(e, last) u = Unsqueeze(s, last) y = Div(e, u)",
        f"{LESS_MAX} e = Exp(z) s = ReduceSum(e, last) y = Div(e, s)",
        f"{LESS_MAX} e = Exp(z) s = ReduceSum(e, last) t = Add(small, s) y = Div(e, t)",
        f"{LESS_MAX} y = Softmax(z)",
    ],
)
def test_softmax(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body), x)
    assert report.after == {"Softmax": 1}


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("e = Exp(x) s = ReduceSum(e, last) y = Log(s)", "float[a, b] y"),
        ("e = Exp(x) s = ReduceSum<keepdims = 0>(e, both) y = Log(s)", "float y"),
        ("e = Exp(x) y = ReduceLogSum(e, last)", "float[a, b] y"),
        (f"{LESS_MAX} e = Exp(z) s = ReduceSum(e, last) l = Log(s) y = Add(m, l)", "float[a, b] y"),
        (
            f"{LESS_MAX} e = Exp(z) s = ReduceSum<keepdims = 0>(e, last) l = Log(s) k = Squeeze(m, last)"
            " y = Add(l, k)",
            "float[a] y",
        ),
    ],
)
def test_log_sum_exp(rewritten: Any, x: dict[str, np.ndarray], body: str, result: str) -> None:
    _, report = rewritten(model(body, result), x)
    assert report.after == {"ReduceLogSumExp": 1}


def test_the_logarithm_of_a_mean(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    _, report = rewritten(model("e = Exp(x) s = ReduceMean(e, last) y = Log(s)"), x)
    assert report.after == {"ReduceLogSumExp": 1, "Sub": 1}
    _, report = rewritten(model("e = Exp(x) s = ReduceMean(e, first) y = Log(s)"), x)
    assert "ReduceLogSumExp" not in report.after  # the number of terms is unknown


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("p = Softmax(x) y = Log(p)", {"LogSoftmax": 1}),
        ("p = Softmax(x) c = Clip(p, small) y = Log(c)", {"LogSoftmax": 1, "Clip": 1}),
        ("p = Softmax(x) c = Max(small, p) y = Log(c)", {"LogSoftmax": 1, "Clip": 1}),
        ("p = Softmax(x) c = Add(small, p) y = Log(c)", {"LogSoftmax": 1, "Softplus": 1, "Add": 1, "Sub": 1}),
        ("p = Sigmoid(x) y = Log(p)", {"Softplus": 1, "Neg": 2}),
        ("p = Sigmoid(x) q = Sub(one, p) y = Log(q)", {"Softplus": 1, "Neg": 1}),
        ("e = Exp(x) s = Add(one, e) y = Log(s)", {"Softplus": 1}),
        (
            "e = Exp(x) w = Neg(x) f = Exp(w) s = Add(e, f) y = Log(s)",
            {"Softplus": 1, "Add": 1, "Sub": 1, "Neg": 1},
        ),
    ],
)
def test_logarithms_of_probabilities(
    rewritten: Any, x: dict[str, np.ndarray], body: str, expected: dict[str, int]
) -> None:
    _, report = rewritten(model(body), x)
    assert report.after == expected


@pytest.mark.parametrize(
    "body",
    [
        "e = Exp(x) s = ReduceSum(e, first) t = Add(s, half) y = Div(e, t)",  # the floor matters
        "e = Exp(x) s = ReduceSum(e, last) t = Add(s, small) y = Div(e, t)",  # and here it may matter
        "e = Exp(x) w = Neg(x) f = Exp(w) s = ReduceSum(f, last) y = Div(e, s)",
        "m = ReduceMax(x, first) z = Sub(x, m) y0 = Softmax(z) y = Neg(y0)",
        "e = Exp(x) s = ReduceSum(e, last) l = Log(s) m = ReduceMin(x, last) y = Add(l, m)",
        "p = Softmax(x) c = Add(p, half) y = Log(c)",
        "e = Exp(x) s = Add(e, two) y = Log(s)",
        "p = Softmax(x) q = Sub(two, p) y = Log(q)",
    ],
)
def test_what_looks_alike_is_left(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body), x)
    assert not {"LogSoftmax", "Softplus"} & set(report.after)
    assert report.after.get("Softmax", 0) == body.count("Softmax")
    assert report.after.get("ReduceMax", 0) == body.count("ReduceMax")
