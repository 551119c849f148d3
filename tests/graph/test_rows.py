"""A selected row is computed alone, as far up as no reader needs the others, with the same result."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.rows import TITLE

# A block as in a Transformer: residual, normalisation, feed-forward network.
BLOCK = """
    n1 = LayerNormalization <axis = -1> (x, g)
    u = MatMul(n1, w1)
    ub = Add(u, b1)
    a = Gelu(ub)
    d = MatMul(a, w2)
    r = Add(x, d)
    n = LayerNormalization <axis = -1> (r, g)
"""
INTS = "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] last = {-1}, int64[1] far = {9223372036854775807}"


def model(body: str, outputs: str = "float[b, 4] y", inputs: str = "float[b, s, 4] x") -> str:
    weights = "float[4] g, float[4, 6] w1, float[6] b1, float[6, 4] w2, float[4, 4] w3"
    numbers = f"int64 first = {{0}}, int64 end = {{-1}}, {INTS}"
    return f"g ({inputs}, {weights}) => ({outputs}) <{numbers}> {{ {body} }}"


@pytest.fixture
def feeds(random: np.random.Generator) -> list[dict[str, np.ndarray]]:
    shapes = {"g": (4,), "w1": (4, 6), "b1": (6,), "w2": (6, 4), "w3": (4, 4)}
    weights = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return [
        {"x": random.normal(size=(b, s, 4)).astype(np.float32), **weights}
        for b, s in ((1, 1), (2, 5), (3, 2))
    ]


def shapes_of(source: str, op: str, parsed: Any) -> list[tuple[Any, ...]]:
    """The output shapes of the operators of this kind in the rewritten model."""
    made = ir.from_proto(parsed(source))
    canonicalise(made)
    found = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(made)))
    shapes = [node.outputs[0].shape for node in found.graph if node.op_type == op]
    return [tuple(d if isinstance(d, int) else d.value for d in shape or ()) for shape in shapes]


@pytest.mark.parametrize(
    "selection",
    [
        "y = Gather <axis = 1> (n, first)",
        "y = Gather <axis = 1> (n, end)",
        "t = Slice(n, i0, i1, i1) y = Squeeze(t, i1)",
        "t = Slice(n, last, far, i1) y = Squeeze(t, i1)",
        "t = Gather <axis = 1> (n, last) y = Squeeze(t, i1)",
        "t = Gather <axis = -2> (n, first) y = MatMul(t, w3)",
    ],
)
def test_a_block_of_which_one_row_is_read(
    selection: str, rewritten: Any, feeds: list[dict[str, np.ndarray]], parsed: Any
) -> None:
    source = model(f"{BLOCK} {selection}")
    _, report = rewritten(source, *feeds)
    assert report.rules[TITLE] == 7
    assert all(shape[1] == 1 for shape in shapes_of(source, "Gelu", parsed))
    assert all(shape[1] == 1 for shape in shapes_of(source, "LayerNormalization", parsed))


def test_not_where_all_rows_are_an_output(rewritten: Any, feeds: list[dict[str, np.ndarray]]) -> None:
    body = f"{BLOCK} y = Gather <axis = 1> (n, first)"
    graph, report = rewritten(model(body, "float[b, 4] y, float[b, s, 4] n"), *feeds)
    assert TITLE not in report.rules
    assert graph.histogram()["Gather"] == 1
    _, report = rewritten(model(body, "float[b, 4] y, float[b, s, 4] r"), *feeds)
    assert report.rules[TITLE] == 1  # past the last normalisation, and no further


@pytest.mark.parametrize(
    "body",
    [
        "p = Gather <axis = 1> (n, first) q = Gather <axis = 1> (n, end) y = Add(p, q)",  # two rows
        "m = ReduceMean <keepdims = 0> (n, i1) p = Gather <axis = 1> (n, first) y = Add(m, p)",
        "t = Softmax <axis = 1> (n) y = Gather <axis = 1> (t, first)",  # a row depends on the others
        "t = CumSum(n, i1) y = Gather <axis = 1> (t, end)",
        "one = Constant <value_int = 1> () y = Gather <axis = 1> (n, one)",  # neither first nor last
        "t = Slice(n, i0, far, i1) y = ReduceMax <keepdims = 0> (t, i1)",
    ],
)
def test_not_where_other_rows_are_needed(
    body: str, rewritten: Any, feeds: list[dict[str, np.ndarray]]
) -> None:
    _, report = rewritten(model(f"{BLOCK} {body}"), *feeds[1:])
    assert TITLE not in report.rules


@pytest.mark.parametrize("row", ["first", "end"])
@pytest.mark.parametrize(
    ("operation", "passed"),
    [
        ("Add(x, g)", 1),
        ("Mul(x, x)", 1),
        ("Sub(x, c)", 1),
        ("Div(x, x)", 1),
        ("Add(c, x)", 1),
        ("Where(k, x, c)", 1),
        ("Clip(x, low)", 1),
        ("Tanh(x)", 1),
        ("Concat <axis = 2> (x, x)", 1),
        ("Softmax <axis = 2> (x)", 1),
        ("MatMul(m, x)", 1),  # rows of m
        ("Transpose <perm = [1, 0, 2]> (x)", 1),
    ],
)
def test_operators_that_work_on_rows(
    operation: str, passed: int, row: str, rewritten: Any, random: np.random.Generator
) -> None:
    axis = 0 if operation.startswith("Transpose") else 1
    given = "float[b, s, 4] x, float[4] g, float[1, 4] c, bool[s, 1] k, float low, float[s, s] m"
    body = f"t = {operation} y = Gather <axis = {axis}> (t, i)"
    source = f"g ({given}) => (float[p, q] y) <int64 i = {{{-1 if row == 'end' else 0}}}> {{ {body} }}"
    sizes = {"x": (2, 5, 4), "g": (4,), "c": (1, 4), "low": (), "m": (5, 5)}
    feed: dict[str, np.ndarray] = {n: np.asarray(random.normal(size=s), np.float32) for n, s in sizes.items()}
    feed["k"] = np.array([True, False, True, True, False]).reshape(5, 1)
    _, report = rewritten(source, feed)
    assert report.rules[TITLE] == passed


def test_what_reads_the_shape_alone_keeps_nothing(rewritten: Any, feeds: list[dict[str, np.ndarray]]) -> None:
    body = f"""{BLOCK} p = Gather <axis = 1> (n, end) s = Shape(n) f = Cast <to = 1> (s)
        m = ReduceMax <keepdims = 0> (f) y = Add(p, m)"""
    graph, report = rewritten(model(body), *feeds)
    assert report.rules[TITLE] == 7
    assert graph.histogram()["Gelu"] == 2  # the one read for its shape never runs on shares


def test_the_queries_of_an_attention(rewritten: Any, random: np.random.Generator) -> None:
    """Keys and values stay whole; the mask is reduced to its row."""
    body = """
        q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
        q4 = Reshape(q, heads) k4 = Reshape(k, heads) v4 = Reshape(v, heads)
        qt = Transpose <perm = [0, 2, 1, 3]> (q4) kt = Transpose <perm = [0, 2, 3, 1]> (k4)
        vt = Transpose <perm = [0, 2, 1, 3]> (v4)
        scores = MatMul(qt, kt) scaled = Mul(scores, half) masked = Add(scaled, mask)
        weights = Softmax <axis = -1> (masked) mixed = MatMul(weights, vt)
        back = Transpose <perm = [0, 2, 1, 3]> (mixed) flat = Reshape(back, whole)
        y = Gather <axis = 1> (flat, end)
    """
    names = "float[8, 8] wq, float[8, 8] wk, float[8, 8] wv"
    source = f"""g (float[b, s, 8] x, float[b, 1, s, s] mask, {names}) => (float[b, 8] y)
        <int64[4] heads = {{0, 0, 2, 4}}, int64[3] whole = {{0, 0, 8}},
         float half = {{0.5}}, int64 end = {{-1}}>
        {{ {body} }}"""
    feeds = []
    for b, s in ((1, 1), (2, 6)):
        feed = {n: random.normal(size=(8, 8)).astype(np.float32) for n in ("wq", "wk", "wv")}
        feed["x"] = random.normal(size=(b, s, 8)).astype(np.float32)
        feed["mask"] = np.broadcast_to(np.triu(np.full((s, s), -1e4, np.float32), 1), (b, 1, s, s)).copy()
        feeds.append(feed)
    graph, report = rewritten(source, *feeds)
    assert graph.histogram()["Attention"] == 1
    assert report.rules[TITLE] >= 5
    selected = {n.inputs[0] for n in graph.nodes if n.op == "Gather"}
    assert selected == {"x", "mask"}


def flattened(attributes: str, outer: str, width: int = 6, rows: str = "-1, 4") -> str:
    """A linear layer on flattened rows; `outer`: the leading axes of the shape afterwards."""
    shape = (6, 4) if "transB" in attributes else (4, 6)
    numbers = ", ".join(str(i % 7 - 3) for i in range(24))
    return f"""g (float[b, s, 4] x) => (float[p, q, r] y)
        <int64[2] rows = {{{rows}}}, {INTS}, int64[1] width = {{{width}}},
         float[{shape[0]}, {shape[1]}] w = {{{numbers}}}, float[6] c = {{1, 2, 3, 4, 5, 6}}>
        {{ flat = Reshape(x, rows) p = Gemm {attributes} (flat, w, c) sizes = Shape(x)
           b = Gather <axis = 0> (sizes, i0) n = Gather <axis = 0> (sizes, i1)
           t = Concat <axis = 0> ({outer}, width) y = Reshape(p, t) }}"""


@pytest.mark.parametrize("attributes", ["", "<transB = 1>"])
def test_a_product_on_flattened_rows(
    attributes: str, rewritten: Any, feeds: list[dict[str, np.ndarray]]
) -> None:
    graph, report = rewritten(flattened(attributes, "b, n"), *({"x": feed["x"]} for feed in feeds))
    assert report.rules["product on flattened rows"] == 1
    assert graph.histogram() == {"Add": 1, "MatMul": 1}


@pytest.mark.parametrize(
    "source",
    [
        flattened("<alpha = 2.0>", "b, n"),
        flattened("", "n, b"),  # the axes afterwards differ
        flattened("", "n, b", width=-1),
    ],
)
def test_products_that_only_look_so(source: str, rewritten: Any, feeds: list[dict[str, np.ndarray]]) -> None:
    graph, report = rewritten(source, *({"x": feed["x"]} for feed in feeds))
    assert "product on flattened rows" not in report.rules
    assert graph.histogram()["Gemm"] == 1
