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
