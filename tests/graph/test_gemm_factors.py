"""alpha and beta of a Gemm: which constants absorb them, and which factors remain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpuma.graph.rules.gemm_factors import TITLE, halves

F = np.float32


@pytest.fixture
def seen(rewritten: Any, random: np.random.Generator) -> Any:
    """Rewrite a graph of x (3, 6) and z (6, 4) with weights w (6, 4), c (4); return the result."""

    def rewrite(body: str) -> Any:
        weights = {"w": random.normal(size=(6, 4)).astype(F), "c": random.normal(size=4).astype(F)}
        model = onnx.parser.parse_model(
            f"""<ir_version: 10, opset_import: ["" : 23]>
            g (float[n, 6] x, float[6, 4] z) => (float[n, 4] y) {{ {body} }}"""
        )
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
        feed = {"x": random.normal(size=(3, 6)).astype(F), "z": random.normal(size=(6, 4)).astype(F)}
        return rewritten(model, feed, atol=1e-5)

    return rewrite


def factors(graph: Any) -> list[dict[str, float]]:
    gemms = [node.attributes for node in graph.nodes if node.op == "Gemm"]
    return [{n: v for n, v in each.items() if n in ("alpha", "beta") and v != 1.0} for each in gemms]


@pytest.mark.parametrize(
    ("attributes", "left"),
    [
        ("alpha = 0.1, beta = 0.3", {}),
        ("beta = 0.3", {}),
        ("alpha = 100.0", {}),
        ("alpha = 0.25, beta = 0.3", {"alpha": 0.25}),
    ],
)
def test_constants_take_them_in(seen: Any, attributes: str, left: dict[str, float]) -> None:
    graph, report = seen(f"y = Gemm <{attributes}> (x, w, c)")
    assert report.after == {"Gemm": 1}
    assert report.rules[TITLE] == 1
    assert factors(graph) == [left]


def test_a_half_moves_the_point_and_stays(seen: Any) -> None:
    graph, report = seen("y = Gemm <alpha = 0.25> (x, w, c)")
    assert TITLE not in report.rules
    assert factors(graph) == [{"alpha": 0.25}]


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("y = Gemm <alpha = 0.1, beta = 0.3> (x, z, c)", {"Gemm": 1, "Mul": 1, "Add": 1}),
        ("y = Gemm <alpha = 0.1> (x, z)", {"Gemm": 1, "Mul": 1}),
        ("p = Gemm(x, z) y = Gemm <beta = 0.3> (x, w, p)", {"Gemm": 2, "Mul": 1}),
        ("p = Gemm <alpha = 0.1> (x, w, c) q = Gemm(x, w) y = Add(p, q)", {"Gemm": 2, "Mul": 1, "Add": 2}),
    ],
)
def test_what_no_constant_takes_in_is_a_product(seen: Any, body: str, after: dict[str, int]) -> None:
    graph, report = seen(body)
    assert report.after == after
    assert factors(graph) == [{}] * after["Gemm"]


def test_which_are_halves() -> None:
    assert [halves(a) for a in (0.5, 2.0**-11)] == [1, 11]
    assert [halves(a) for a in (1.0, 2.0, 0.3, -0.5, 0.0)] == [None] * 5
