"""Small numbers inside a logarithm are scaled up; others stay as they are, and so do weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def model(body: str, number: str) -> str:
    return f"g (float[n, 6] x) => (float[a, b] y) <float c = {{{number}}}, float zero = {{0}}> {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    x = np.abs(random.normal(0, 3, (3, 6)).astype(np.float32))
    x[0, :3] = 0
    return {"x": x}


@pytest.mark.parametrize("number", ["0.00001", "0.00000001", "0.000000000001", "0.00000011920928955078125"])
@pytest.mark.parametrize(
    "body",
    [
        "a = Abs(x) s = Add(a, c) y = Log(s)",
        "a = Abs(x) s = Clip(a, c) y = Log(s)",
        "a = Abs(x) s = Max(c, a) y = Log(s)",
        "a = Relu(x) s = Add(a, c) y = Log(s)",
    ],
)
def test_scaled_up(rewritten: Any, x: dict[str, np.ndarray], body: str, number: str) -> None:
    graph, report = rewritten(model(body, number), x, atol=1e-3)
    assert {"Log", "Sub", "Mul"} <= set(report.after)
    assert "Relu" not in report.after
    inside = next(
        n for n in graph.nodes if n.op in ("Add", "Max") and len(n.inputs) == 2 and "Log" not in n.op
    )
    held = [i.numpy() for name in inside.inputs if (i := graph.initializers.get(name or "")) is not None]
    assert held == [] or np.abs(held[0]).max() == 0 or np.abs(held[0]).max() >= 2.0**-15


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("a = Abs(x) s = Add(a, c) y = Log(s)", "0.5"),
        ("a = Abs(x) s = Add(a, c) y = Sqrt(s)", "0.00000001"),
        ("a = Mul(x, x) s = Add(a, c) y = Log(s)", "0.000001"),  # a product has twice the bits
        (
            "a = Abs(x) s = Add(a, c) y = Log(s)",
            "0.00000123",
        ),  # not round: a weight, whose size decides nothing
    ],
)
def test_left_alone(rewritten: Any, x: dict[str, np.ndarray], body: str, number: str) -> None:
    _, report = rewritten(model(body, number), {"x": x["x"] + 1})
    assert "Sub" not in report.after


@pytest.mark.parametrize("body", ["a = Relu(x) y = Sqrt(a)", "a = Relu(x) s = Add(a, c) y = Sqrt(s)"])
def test_a_root_of_nothing_below_zero(rewritten: Any, x: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body, "0.01"), x)
    assert "Relu" not in report.after
    assert report.after["Max"] == 1


@pytest.mark.parametrize("number", ["0.00001", "0.000001", "0.00000001"])
@pytest.mark.parametrize("join", ["Add(a, c)", "Max(c, a)", "Clip(a, c)"])
def test_a_root_goes_up(rewritten: Any, x: dict[str, np.ndarray], join: str, number: str) -> None:
    graph, report = rewritten(model(f"a = Abs(x) s = {join} y = Sqrt(s)", number), x, atol=1e-5)
    assert report.rules["small number in a root"] == 1
    root = next(n for n in graph.nodes if n.op == "Sqrt")
    assert report.after["Mul"] == 2
    assert root.inputs != ("s",)


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("a = Abs(x) s = Add(a, c) y = Sqrt(s)", "0.0000000001"),  # its root is a few units
        ("a = Abs(x) s = Add(a, c) y = Sqrt(s)", "0.0001220703125"),  # 2^-13 keeps its digits
        ("a = Mul(x, x) s = Add(a, c) y = Sqrt(s)", "0.00001"),
        ("a = Abs(x) s = Max(a, c) r = Sqrt(s) y = Add(r, s)", "0.00001"),
        ("a = Abs(x) s = Max(a, c) y = Reciprocal(s)", "0.0000001"),  # a divisor out of range
        ("a = Abs(x) s = Max(a, c) y = Reciprocal(s)", "0.5"),
    ],
)
def test_what_would_gain_nothing(rewritten: Any, x: dict[str, np.ndarray], body: str, number: str) -> None:
    _, report = rewritten(model(body, number), {"x": x["x"] + 1})
    assert not [title for title in report.rules if title.startswith("small number")]


@pytest.mark.parametrize("quotient", ["Reciprocal(s)", "Div(a, s)", "Div(two, s)"])
@pytest.mark.parametrize("join", ["Max(a, c)", "Clip(a, c, two)"])
def test_a_divisor_goes_up(rewritten: Any, x: dict[str, np.ndarray], join: str, quotient: str) -> None:
    body = f"two = Constant <value_float = 2.0> () a = Abs(x) s = {join} y = {quotient}"
    _, report = rewritten(model(body, "0.001"), x, atol=1e-2)
    assert report.after["Div"] == 1
    assert "Reciprocal" not in report.after
    assert report.after["Mul"] == 1  # of the dividend and the divisor alike
