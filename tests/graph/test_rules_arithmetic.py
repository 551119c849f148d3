"""The arithmetic rules: one spelling for divisions, powers, scales and shapes; no result changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest


def model(body: str, constants: str, rank: int = 2) -> str:
    shape = ", ".join("?" * rank)
    declared = f"<{constants}>" if constants else ""
    return f"g (float[n, 6] x) => (float[{shape}] y) {declared} {{ {body} }}"


@pytest.fixture
def x(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": random.normal(0, 2, (3, 6)).astype(np.float32)}


@pytest.mark.parametrize(
    ("body", "constants", "rule", "histogram"),
    [
        ("y = Div(x, c)", "float c = {8}", "division by a constant", {"Mul": 1}),
        ("y = Div(x, c)", "float[6] c = {1, 2, 3, 4, 5, 6}", "division by a constant", {"Mul": 1}),
        ("y = Div(c, x)", "float c = {1}", "one divided by", {"Reciprocal": 1}),
        ("a = Abs(x) r = Sqrt(a) y = Div(x, r)", "", "division by a square root", {"Div": 1, "Sqrt": 1}),
        ("y = Pow(x, c)", "float c = {2}", "constant power", {"Mul": 1}),
        ("y = Pow(x, c)", "float c = {3}", "constant power", {"Mul": 2}),
        ("y = Pow(x, c)", "float c = {4}", "constant power", {"Mul": 2}),
        ("y = Pow(x, c)", "float c = {-2}", "constant power", {"Mul": 1, "Reciprocal": 1}),
        ("a = Abs(x) y = Pow(a, c)", "float c = {-0.5}", "constant power", {"Reciprocal": 1, "Sqrt": 1}),
        ("y = Pow(x, c)", "int64 c = {2}", "constant power", {"Mul": 1}),
        ("y = Add(c, x)", "float c = {8}", "constant second in a sum", {"Add": 1}),
        ("y = Mul(c, x)", "float c = {8}", "constant second in a product", {"Mul": 1}),
        ("r = Reciprocal(x) y = Mul(r, x)", "", "reciprocal second in a product", {"Div": 1}),
        ("a = Mul(x, c) y = Mul(a, c)", "float c = {3}", "merged scales", {"Mul": 1}),
        ("a = Mul(x, c) y = Transpose(a)", "float c = {3}", "scale after transpose", {"Transpose": 1}),
        ("a = Mul(x, c) y = Reshape(a, s)", "float c = {3}, int64[2] s = {6, -1}", "scale after reshape", {}),
        ("a = Relu(x) y = Add(a, c)", "float c = {0}", "plus zero", {"Relu": 1}),
        ("a = Relu(x) y = Sub(a, c)", "float c = {0}", "minus zero", {"Relu": 1}),
        ("a = Relu(x) y = Mul(a, c)", "float[1] c = {1}", "times one", {"Relu": 1}),
    ],
)
def test_fires(
    rewritten: Any, x: dict[str, np.ndarray], body: str, constants: str, rule: str, histogram: dict[str, int]
) -> None:
    graph, report = rewritten(model(body, constants), x)
    assert report.rules[rule] == 1
    assert histogram.items() <= report.after.items()
    assert not {"Div", "Pow"} - set(histogram) & set(report.after)
    assert all(node.inputs[0] not in graph.initializers for node in graph.nodes)


@pytest.mark.parametrize(
    ("body", "constants", "rank"),
    [
        ("y = Add(x, c)", "float c = {1e-12}", 2),  # an epsilon is not zero
        ("y = Mul(x, c)", "float c = {1.000001}", 2),
        ("y = Add(x, c)", "float[1, 1, 1] c = {0}", 3),  # raises the rank
        ("y = Pow(x, c)", "float[1, 1, 1] c = {2}", 3),
        ("y = Div(x, c)", "float[6] c = {1, 2, 3, 0, 5, 6}", 2),
        ("y = Pow(x, c)", "float c = {1.5}", 2),
        ("r = Relu(x) y = Div(x, r)", "", 2),
        ("a = Mul(x, c) b = Mul(a, c) y = Add(a, b)", "float c = {3}", 2),  # the product is used twice
    ],
)
def test_left_alone(rewritten: Any, x: dict[str, np.ndarray], body: str, constants: str, rank: int) -> None:
    _, report = rewritten(model(body, constants, rank), {"x": np.abs(x["x"])})
    assert report.before == report.after
    assert report.rules == {}


def test_integers_are_not_touched(rewritten: Any) -> None:
    text = "g (int64[n] x) => (int64[n] y) <int64 c = {3}> { y = Div(x, c) }"
    _, report = rewritten(text, {"x": np.array([7, -7, 2])})
    assert report.after == {"Div": 1}


def test_what_an_exporter_leaves_over_goes(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    body = "a = Identity(x) b = Dropout(a) c = Cast <to = 1> (b) d = Relu(c) e = Relu(b) y = Add(d, e)"
    _, report = rewritten(model(body, ""), x)
    assert report.after == {"Add": 1, "Relu": 1}


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("d = Slice(s, from, to) f = Cast <to = 1> (d) r = Sqrt(f) y = Div(x, r)", "fixed dimensions"),
        ("d = Gather(s, one) f = Cast <to = 1> (d) r = Sqrt(f) y = Div(x, r)", "fixed dimension"),
        ("d = Gather(s, last) f = Cast <to = 1> (d) r = Sqrt(f) y = Div(x, r)", "fixed dimension"),
    ],
)
def test_a_scale_computed_from_a_fixed_dimension(
    rewritten: Any, x: dict[str, np.ndarray], body: str, rule: str
) -> None:
    constants = "int64[1] from = {-1}, int64[1] to = {99999}, int64 one = {1}, int64 last = {-1}"
    graph, report = rewritten(model(f"s = Shape(x) {body}", constants), x)
    assert report.rules[rule] == 1
    assert report.after == {"Mul": 1}
    scale = graph.initializers[graph.nodes[0].inputs[1] or ""].numpy()
    assert scale == pytest.approx(1 / np.sqrt(6))


def test_an_open_dimension_stays_computed(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    text = model("s = Shape(x) d = Gather(s, i) f = Cast <to = 1> (d) y = Mul(x, f)", "int64 i = {0}")
    _, report = rewritten(text, x)
    assert report.after["Gather"] == 1


def test_the_nan_guard_of_weights_moves_behind_a_product(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    """A fully masked row (NaN) gives zeros before and after the rewriting; no other row changes."""
    body = "p = Softmax <axis = -1> (x) i = IsNaN(p) g = Where(i, zero, p) t = Transpose <perm = [1, 0]> (x)"
    masked = {"x": np.where(np.arange(len(x["x"]))[:, None] == 1, -np.inf, x["x"]).astype(np.float32)}
    safe = "u = Clip(t, least) y = MatMul(g, u)"
    graph, report = rewritten(model(f"{body} {safe}", "float zero = {0}, float least = {-9}"), x, masked)
    assert report.rules["NaN guard"] == 1
    order = [node.op for node in graph.nodes]
    assert order.index("MatMul") < order.index("IsNaN")


def test_the_nan_guard_of_what_is_read_elsewhere_stays(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    body = "p = Softmax <axis = -1> (x) i = IsNaN(p) y = Where(i, zero, p)"
    _, report = rewritten(model(body, "float zero = {0}"), x)
    assert report.after == {"IsNaN": 1, "Softmax": 1, "Where": 1}


def test_another_choice_on_nan_stays(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    body = "p = Softmax <axis = -1> (x) i = IsNaN(p) y = Where(i, one, p)"
    _, report = rewritten(model(body, "float one = {1}"), x)
    assert report.after == {"IsNaN": 1, "Softmax": 1, "Where": 1}


def test_large_weights_are_multiplied_when_they_are_read(
    rewritten: Any, random: np.random.Generator, parsed: Any
) -> None:
    weights = [random.normal(size=(128, 128)).astype(np.float32) for _ in range(2)]
    text = """
    g (float[n, 128] x) => (float[n, 128] y) <float[128, 128] a, float[128, 128] b>
    { t = Transpose <perm = [1, 0]> (a) w = MatMul(t, b) y = MatMul(x, w) }
    """
    source = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    del source.graph.initializer[:]
    for name, values in zip("ab", weights, strict=True):
        source.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    feeds = {"x": random.normal(size=(2, 128)).astype(np.float32)}
    graph, report = rewritten(source, feeds, atol=1e-3)
    assert report.after == {"MatMul": 1}
    assert set(graph.initializers) == {"w"}


UNEVEN = "float[6] c = {0.001, 1, 20, 300, 30000, 500000}"
INVERSE = "float[6] w = {1000, 1, 0.1, 0.001, 0.00003, 0.000002}"


@pytest.mark.parametrize(
    ("body", "constants", "products"),
    [
        ("y = Div(x, c)", UNEVEN, 2),
        (
            "d = Sub(x, m) y = Mul(d, w)",
            "float m = {2}, float[6] w = {1000, 1, 0.1, 0.001, 0.00003, 0.000002}",
            2,
        ),
        ("y = Div(x, c)", "float[6] c = {1, 2, 3, 4, 50, 60}", 1),
        ("y = Div(x, c)", "float[2, 1] c = {30000, 50000}", 1),  # all small: they have more bits than others
        ("y = Mul(x, w)", INVERSE, 1),  # as a layer's scale
    ],
)
def test_factors_of_very_different_sizes(rewritten: Any, body: str, constants: str, products: int) -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 6)) * np.array([0.001, 1, 20, 300, 3e4, 5e5])
    text = model(body, constants).replace("float[n, 6] x", "float[2, 6] x")
    _, report = rewritten(text, {"x": x.astype(np.float32)})
    assert (report.after["Mul"], report.after.get("Add", 0)) == (products, products - 1)


def test_a_reciprocal_that_several_read_stays(rewritten: Any, x: dict[str, np.ndarray]) -> None:
    _, report = rewritten(model("r = Reciprocal(x) a = Mul(x, r) b = Exp(r) y = Mul(a, b)", ""), x)
    assert report.after["Reciprocal"] == 1
    assert "Div" not in report.after
