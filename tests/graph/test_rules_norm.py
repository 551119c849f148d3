"""Written-out layer and root-mean-square normalisations are recognised, with or without scale and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
int64[1] last = {-1}, float eps = {0.00001}, float one = {1}, float two = {2},
float[6] w = {1, 2, 3, 4, 5, 6}, float[6] b = {6, 5, 4, 3, 2, 1}
"""
CENTRED = "m = ReduceMean <keepdims = 1> (x, last) d = Sub(x, m)"
ROOT = "v = ReduceMean(s, last) e = Add(v, eps) r = Sqrt(e)"


def model(body: str) -> str:
    return f"g (float[n, 6] x) => (float[n, 6] y) <{NUMBERS}> {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.normal(1, 2, (3, 6)).astype(np.float32)}


@pytest.mark.parametrize("square", ["s = Mul(d, d)", "s = Pow(d, two)", "d2 = Sub(x, m) s = Mul(d2, d2)"])
@pytest.mark.parametrize(
    "quotient", ["n = Div(d, r)", "i = Reciprocal(r) n = Mul(d, i)", "i = Reciprocal(r) n = Mul(i, d)"]
)
@pytest.mark.parametrize(
    ("affine", "inputs"),
    [
        ("a = Mul(n, w) y = Add(a, b)", 3),
        ("a = Mul(w, n) y = Add(b, a)", 3),
        ("y = Mul(n, w)", 2),
        ("y = Identity(n)", 2),
    ],
)
def test_layer_normalisation(
    rewritten: Any, x: dict[str, np.ndarray], square: str, quotient: str, affine: str, inputs: int
) -> None:
    graph, report = rewritten(model(f"{CENTRED} {square} {ROOT} {quotient} {affine}"), x)
    assert report.after == {"LayerNormalization": 1}
    assert len(graph.nodes[0].inputs) == inputs
    assert graph.nodes[0].attributes["epsilon"] == pytest.approx(1e-5)


@pytest.mark.parametrize("square", ["s = Mul(x, x)", "s = Pow(x, two)"])
@pytest.mark.parametrize(
    "quotient", ["n = Div(x, r)", "i = Reciprocal(r) n = Mul(x, i)", "i = Div(one, r) n = Mul(i, x)"]
)
@pytest.mark.parametrize("scale", ["y = Mul(n, w)", "y = Mul(w, n)", "y = Identity(n)"])
def test_rms_normalisation(
    rewritten: Any, x: dict[str, np.ndarray], square: str, quotient: str, scale: str
) -> None:
    graph, report = rewritten(model(f"{square} {ROOT} {quotient} {scale}"), x)
    assert report.after == {"RMSNormalization": 1}
    assert graph.nodes[0].attributes["epsilon"] == pytest.approx(1e-5)


def test_the_square_of_something_else_is_not_a_normalisation(
    rewritten: Any, x: dict[str, np.ndarray]
) -> None:
    _, report = rewritten(model(f"z = Relu(x) s = Mul(z, z) {ROOT} y = Div(x, r)"), x)
    assert "RMSNormalization" not in report.after


def test_a_normalised_value_used_twice_keeps_its_own_scale(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    _, report = rewritten(
        model(f"{CENTRED} s = Mul(d, d) {ROOT} n = Div(d, r) a = Mul(n, w) y = Add(a, n)"), x
    )
    assert report.after == {"Add": 1, "LayerNormalization": 1, "Mul": 1}


def test_a_residual_is_not_taken_for_a_bias(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    text = model(f"{CENTRED} s = Mul(d, d) {ROOT} n = Div(d, r) a = Mul(n, w) y = Add(a, x)")
    _, report = rewritten(text, x)
    assert report.after == {"Add": 1, "LayerNormalization": 1}


def test_centred_and_then_divided_by_its_root_mean_square(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    """How an exporter that knows RMSNormalization writes out a layer normalisation."""
    body = f"{CENTRED} y = RMSNormalization <axis = -1, epsilon = 0.001> (d, w)"
    graph, report = rewritten(model(body), x, opset=23)
    assert report.after == {"LayerNormalization": 1}
    assert graph.nodes[0].attributes["epsilon"] == pytest.approx(1e-3)


def test_centred_on_another_mean(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    body = "m = ReduceMean <keepdims = 1> (w, last) d = Sub(x, m) y = RMSNormalization <axis = -1> (d, w)"
    _, report = rewritten(model(body), x, opset=23)
    assert report.after == {"RMSNormalization": 1, "Sub": 1}
