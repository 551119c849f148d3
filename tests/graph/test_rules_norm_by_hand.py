"""Normalisations written out along any axes are recognised; lookalikes are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
int64[1] a = {0}, int64[1] b = {1}, int64[2] ab = {0, 1}, float eps = {0.00001},
float tiny = {0.000000000001}, float sixth = {0.2}, float root = {0.4472136},
float half = {-0.5}, float two = {2}, float large = {0.5}
"""
MEAN = "m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d)"
CENTRED = {"LayerNormalization": 1}
PLAIN = {"RMSNormalization": 1}


def model(body: str, shape: str = "6, 5") -> str:
    return f"g (float[{shape}] x) => (float[u, w] y) <{NUMBERS}> {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.normal(0.3, 2, (6, 5)).astype(np.float32)}


@pytest.mark.parametrize("shape", ["6, 5", "n, k"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{MEAN} v = ReduceMean(q, a) e = Add(v, eps) s = Sqrt(e) y = Div(d, s)", CENTRED),
        (f"{MEAN} v = ReduceMean(q, a) e = Add(v, tiny) s = Pow(e, half) y = Mul(s, d)", CENTRED),
        (f"{MEAN} v = ReduceSum(q, a) e = Mul(v, sixth) s = Sqrt(e) y = Div(d, s)", CENTRED),
        (f"{MEAN} v = ReduceMean(q, a) s = Sqrt(v) t = Add(s, tiny) y = Div(d, t)", CENTRED),
        (f"{MEAN} s = ReduceL2(d, a) y = Div(d, s)", CENTRED),
        (
            "m = ReduceMean<keepdims = 0>(x, a) d = Sub(x, m) q = Pow(d, two)"
            " v = ReduceMean<keepdims = 0>(q, a) s = Sqrt(v) y = Div(d, s)",
            CENTRED,
        ),
        (
            "m = ReduceMean(x, a) d = Sub(x, m) q = Mul(x, x) v = ReduceMean(q, a) w = Mul(m, m)"
            " u0 = Sub(v, w) e = Add(u0, eps) s = Sqrt(e) y = Div(d, s)",
            CENTRED,
        ),
        ("m = ReduceMean(x, ab) d = Sub(x, m) s = ReduceL2(d, ab) y = Div(d, s)", CENTRED),
        ("s = ReduceL2(x, b) t = Clip(s, tiny) y = Div(x, t)", PLAIN),
        ("s = ReduceL2(x, a) t = Max(tiny, s) y = Div(x, t)", PLAIN),
        ("s = ReduceL2(x, b) t = Mul(s, root) y = Div(x, t)", PLAIN),
        ("z = Abs(x) q = Mul(z, z) v = ReduceSum(q, b) s = Sqrt(v) y = Div(x, s)", PLAIN),
        ("v = ReduceSumSquare(x, b) e = Add(v, tiny) s = Sqrt(e) r = Reciprocal(s) y = Mul(x, r)", PLAIN),
        ("m = ReduceMean(x, b) d = Sub(x, m) s = ReduceL2(d, a) y = Div(d, s)", PLAIN),  # another mean
    ],
)
def test_by_hand(
    rewritten: Any, x: dict[str, np.ndarray], shape: str, body: str, expected: dict[str, int]
) -> None:
    _, report = rewritten(model(body, shape), x)
    found = {op: report.after.get(op, 0) for op in ("LayerNormalization", "RMSNormalization")}
    assert {op: count for op, count in found.items() if count} == expected
    assert not {"Div", "ReduceL2"} & set(report.after)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "m = ReduceMean(x, a) d = Sub(x, m) m2 = ReduceMean<keepdims = 0>(x, a) d2 = Sub(x, m2)"
            " q = Mul(d2, d2) v = ReduceMean<keepdims = 0>(q, a) v2 = Reshape(v, row)"
            " s = Sqrt(v2) y = Div(d, s)",
            CENTRED,
        ),
        ("s = ReduceL2(x, b) t = Clip(s, tiny) z = Expand(t, whole) y = Div(x, z)", PLAIN),
        ("s = ReduceL2<keepdims = 0>(x, a) t = Reshape(s, other) z = Abs(x) y = Div(z, t)", {}),  # crosswise
    ],
)
def test_put_into_another_shape(rewritten: Any, body: str, expected: dict[str, int]) -> None:
    x = np.random.default_rng(0).normal(0.3, 2, (5, 5)).astype(np.float32)
    shapes = "int64[2] row = {1, 5}, int64[2] other = {5, 1}, int64[2] whole = {5, 5}"
    text = model(body, "5, 5").replace("<\n", f"<\n{shapes}, ", 1)
    _, report = rewritten(text, {"x": x})
    found = {op: report.after.get(op, 0) for op in ("LayerNormalization", "RMSNormalization")}
    assert {op: count for op, count in found.items() if count} == expected


@pytest.mark.parametrize(
    "body",
    [
        "z = Relu(x) q = Mul(z, z) v = ReduceMean(q, a) s = Sqrt(v) y = Div(x, s)",
        f"{MEAN} v = ReduceMean(q, a) s = Sqrt(v) t = Add(s, large) y = Div(d, t)",
        f"{MEAN} v = ReduceMean(q, a) e = Sub(v, large) z = Abs(e) s = Sqrt(z) y = Div(d, s)",
        "s = ReduceL2(x, b) t = Clip(s, large) y = Div(x, t)",
        "w = ReduceL1(x, b) y = Div(x, w)",
        "m = ReduceMean(x, a) d = Sub(x, m) q = Mul(x, m) v = ReduceMean(q, a) z = Abs(v) s = Sqrt(z)"
        " y = Div(d, s)",
    ],
)
def test_what_looks_alike_is_left(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body), x)
    assert not {"LayerNormalization", "RMSNormalization"} & set(report.after)


def test_an_epsilon_beside_a_sum_of_unknown_length_counts(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    _, report = rewritten(
        model("v = ReduceSumSquare(x, b) e = Add(v, eps) s = Sqrt(e) y = Div(x, s)", "n, k"), x
    )
    assert "RMSNormalization" not in report.after
