"""GELU, SiLU, sigmoid and tanh are recognised in every spelling, and nothing else is mistaken for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
float root = {1.4142135}, float half = {0.5}, float one = {1}, float two = {2}, float three = {3},
float a = {0.044715}, float k = {0.7978845608}, float quick = {1.702}
"""


def model(body: str, inputs: str = "float[n, 6] x") -> str:
    return f"g ({inputs}) => (float[?, ?] y) <{NUMBERS}> {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.normal(0, 2, (3, 6)).astype(np.float32)}


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) p = Add(one, e) m = Mul(p, half) y = Mul(x, m)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, half) y = Mul(m, p)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(half, x) y = Mul(p, m)",
        "d = Div(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Div(m, two)",
        "d = Div(x, root) e = Erf(d) q = Mul(e, half) p = Add(q, half) y = Mul(p, x)",
        "i = Reciprocal(root) d = Mul(x, i) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",
    ],
)
def test_gelu(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    graph, report = rewritten(model(body), x)
    assert report.after == {"Gelu": 1}
    assert report.rules["Gelu"] == 1
    assert graph.nodes[0].attributes["approximate"] == "none"


@pytest.mark.parametrize(
    "cube", ["c = Pow(x, three)", "s = Mul(x, x) c = Mul(x, s)", "s = Mul(x, x) c = Mul(s, x)"]
)
@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("b = Mul(c, a) i = Add(x, b) j = Mul(i, k)", "p = Add(t, one) m = Mul(x, half) y = Mul(m, p)"),
        ("b = Mul(a, c) i = Add(b, x) j = Mul(k, i)", "p = Add(one, t) m = Mul(p, half) y = Mul(x, m)"),
        ("b = Mul(a, c) i = Add(x, b) j = Mul(k, i)", "p = Add(one, t) m = Mul(x, p) y = Mul(m, half)"),
    ],
)
def test_gelu_tanh(rewritten: Any, x: dict[str, np.ndarray], cube: str, inner: str, outer: str) -> None:
    graph, report = rewritten(model(f"{cube} {inner} t = Tanh(j) {outer}"), x)
    assert report.after == {"Gelu": 1}
    assert report.rules["Gelu (tanh)"] == 1
    assert graph.nodes[0].attributes["approximate"] == "tanh"


def test_gelu_tanh_with_the_tensor_factored_out(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    inner = "s = Mul(x, x) b = Mul(s, a) i = Add(b, one) r = Mul(x, i) j = Mul(r, k)"
    _, report = rewritten(model(f"{inner} t = Tanh(j) p = Add(t, one) m = Mul(x, p) y = Mul(m, half)"), x)
    assert report.after == {"Gelu": 1}


@pytest.mark.parametrize(
    ("body", "alpha"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", 1.0),
        ("s = Sigmoid(x) y = Mul(s, x)", 1.0),
        ("b = Mul(x, quick) s = Sigmoid(b) y = Mul(x, s)", 1.702),
        ("b = Mul(quick, x) s = Sigmoid(b) y = Mul(s, x)", 1.702),
    ],
)
def test_swish(rewritten: Any, x: dict[str, np.ndarray], body: str, alpha: float) -> None:
    graph, report = rewritten(model(body), x)
    assert report.after == {"Swish": 1}
    assert graph.nodes[0].attributes["alpha"] == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("n = Neg(x) e = Exp(n) s = Add(one, e) y = Div(one, s)", {"Sigmoid": 1}),
        ("n = Neg(x) e = Exp(n) s = Add(e, one) y = Reciprocal(s)", {"Sigmoid": 1}),
        ("e = Exp(x) s = Add(e, one) y = Div(e, s)", {"Sigmoid": 1}),
        ("e = Exp(x) s = Add(e, one) y = Div(one, s)", {"Mul": 1, "Sigmoid": 1}),
        ("b = Mul(x, quick) n = Neg(b) e = Exp(n) s = Add(e, one) y = Div(one, s)", {"Mul": 1, "Sigmoid": 1}),
        ("n = Neg(x) e = Exp(n) s = Add(e, one) y = Div(x, s)", {"Swish": 1}),
        ("n = Neg(x) e = Exp(n) s = Add(e, one) r = Div(one, s) y = Mul(x, r)", {"Swish": 1}),
        ("n = Neg(x) e = Exp(x) f = Exp(n) a1 = Sub(e, f) s = Add(e, f) y = Div(a1, s)", {"Tanh": 1}),
        ("d = Mul(x, two) e = Exp(d) a1 = Sub(e, one) s = Add(e, one) y = Div(a1, s)", {"Tanh": 1}),
        ("n = Neg(x) e = Exp(n) s = Add(e, two) y = Div(one, s)", None),
        ("n = Neg(x) e = Exp(n) s = Add(e, one) y = Div(two, s)", None),
    ],
)
def test_exponentials_of_one_tensor(
    rewritten: Any, x: dict[str, np.ndarray], body: str, made: dict[str, int] | None
) -> None:
    _, report = rewritten(model(body), x)
    assert report.after == made if made else "Exp" in report.after


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, half) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)",  # another width
        "d = Div(x, root) e = Erf(d) p = Add(e, two) m = Mul(x, p) y = Mul(m, half)",
        "t = Tanh(x) y = Mul(x, t)",
        "t = Tanh(x) u = Sigmoid(x) y = Mul(t, u)",  # the gate of an LSTM
    ],
)
def test_not_an_activation(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body), x)
    assert not {"Gelu", "Swish"} & set(report.after)


def test_a_gate_of_two_tensors_is_not_swish(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    text = model("s = Sigmoid(z) y = Mul(x, s)", inputs="float[n, 6] x, float[n, 6] z")
    _, report = rewritten(text, {**x, "z": x["x"][::-1].copy()})
    assert report.after == {"Mul": 1, "Sigmoid": 1}


def test_the_gate_of_a_gated_unit_stays_a_product(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    text = model("s = Sigmoid(x) g = Mul(x, s) y = Mul(g, z)", inputs="float[n, 6] x, float[n, 6] z")
    _, report = rewritten(text, {**x, "z": x["x"][::-1].copy()})
    assert report.after == {"Mul": 1, "Swish": 1}
