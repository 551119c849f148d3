"""Attention is recognised wherever exporters put its scale, its mask and the transposition of k."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.graph.visibility import classify

NUMBERS = """
float c = {0.5}, float d = {0.25}, float heat = {0.7}, float root = {2},
float low = {-3.4028234e38}, float zero = {0},
int64[1] minus2 = {-2}, int64[1] minus1 = {-1}, int64[1] end = {9223372036854775807},
int64[1] start = {-9223372036854775808}
"""
MASKS = "float[b, 1, n, n] add, bool[b, 1, n, n] keep"
K = "kt = Transpose <perm = [0, 1, 3, 2]> (k)"
END = "p = Softmax <axis = -1> (s) y = MatMul(p, v)"


def model(body: str, shape: str = "b, 3, n, 4", masks: str = MASKS) -> str:
    return f"""
    g (float[{shape}] q, float[{shape}] k, float[{shape}] v, {masks}) => (float[{shape}] y)
    <{NUMBERS}> {{ {body} }}
    """


@pytest.fixture
def feeds(random: np.random.Generator) -> dict[str, np.ndarray]:
    q, k, v = (random.normal(size=(2, 3, 5, 4)).astype(np.float32) for _ in range(3))
    keep = np.tile(np.tri(5, dtype=bool), (2, 1, 1, 1))
    add = np.where(keep, np.float32(0), np.finfo(np.float32).min)
    return {"q": q, "k": k, "v": v, "add": add, "keep": keep}


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        (f"{K} m = MatMul(q, kt) s = Mul(m, c)", 0.5),
        (f"{K} m = MatMul(q, kt) s = Mul(c, m)", 0.5),
        (f"{K} m = MatMul(q, kt) s = Div(m, root)", 0.5),
        (f"{K} s = MatMul(q, kt)", 1.0),
        (f"{K} a = Mul(q, c) s = MatMul(a, kt)", 0.5),
        (f"{K} a = Mul(q, c) e = Mul(kt, d) s = MatMul(a, e)", 0.125),
        (f"{K} a = Div(q, root) e = Mul(kt, d) m = MatMul(a, e) s = Mul(m, root)", 0.25),
        ("a = Mul(k, d) kt = Transpose <perm = [0, 1, 3, 2]> (a) s = MatMul(q, kt)", 0.25),
    ],
)
def test_the_scale(rewritten: Any, feeds: dict[str, np.ndarray], body: str, scale: float) -> None:
    graph, report = rewritten(model(f"{body} {END}"), feeds)
    assert report.after == {"Attention": 1}
    assert graph.nodes[0].attributes["scale"] == pytest.approx(scale)
    assert graph.nodes[0].inputs == ("q", "k", "v")


@pytest.mark.parametrize(
    "body",
    [
        f"{K} m = MatMul(q, kt) s = Mul(m, heat)",
        f"{K} a = Mul(q, heat) s = MatMul(a, kt)",
        f"{K} e = Mul(kt, heat) s = MatMul(q, e)",
        f"{K} m = MatMul(q, kt) a = Mul(m, c) s = Mul(a, heat)",
        f"{K} m = MatMul(q, kt) s = Div(m, heat)",
    ],
)
def test_a_trained_factor_is_no_attribute(rewritten: Any, feeds: dict[str, np.ndarray], body: str) -> None:
    """A temperature multiplies the queries, and remains a constant that can be secret."""
    graph, report = rewritten(model(f"{body} {END}"), feeds)
    assert report.after == {"Attention": 1, "Mul": 1}
    attention = next(n for n in graph.nodes if n.op == "Attention")
    assert attention.attributes["scale"] in (1.0, 0.5)
    assert [name for name, found in classify(graph).items() if found.secret]


@pytest.mark.parametrize(
    ("mask", "histogram"),
    [
        ("s = Add(m, add)", {}),
        ("s = Add(add, m)", {}),
        ("s = Where(keep, m, low)", {"Where": 1}),
        ("drop = Not(keep) s = Where(drop, low, m)", {"Not": 1, "Where": 1}),
        ("e = Where(keep, m, low) s = Add(e, add)", {"Add": 1, "Where": 1}),
        ("e = Add(m, add) s = Where(keep, e, low)", {"Where": 1}),
        ("f = Where(keep, zero, low) s = Add(m, f)", {"Where": 1}),
    ],
)
def test_the_mask(rewritten: Any, feeds: dict[str, np.ndarray], mask: str, histogram: dict[str, int]) -> None:
    graph, report = rewritten(model(f"{K} r = MatMul(q, kt) m = Mul(r, c) {mask} {END}"), feeds)
    assert report.after == {"Attention": 1, **histogram}
    attention = graph.nodes[-1]
    assert len(attention.inputs) == 4
    assert attention.attributes["scale"] == 0.5


def test_k_transposed_together_with_its_heads(rewritten: Any, random: np.random.Generator) -> None:
    """From (batch, keys, heads, size): the transposition with keys last is turned back into the usual one."""
    turned = "h = Transpose <perm = [0, 2, 1, 3]> (q) kt = Transpose <perm = [0, 2, 3, 1]> (k)"
    body = f"{turned} s = MatMul(h, kt) {END}"
    text = """
    g (float[b, n, 3, 4] q, float[b, n, 3, 4] k, float[b, 3, n, 4] v) => (float[b, 3, n, 4] y)
    """
    q, k = (random.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(2))
    v = random.normal(size=(2, 3, 5, 4)).astype(np.float32)
    graph, report = rewritten(f"{text} {{ {body} }}", {"q": q, "k": k, "v": v})
    assert report.after == {"Attention": 1, "Transpose": 2}
    assert all(n.attributes["perm"] == [0, 2, 1, 3] for n in graph.nodes if n.op == "Transpose")


def test_k_by_way_of_three_axes(rewritten: Any, feeds: dict[str, np.ndarray]) -> None:
    body = f"""
    shape = Shape(k)
    size = Slice(shape, minus1, end) keys = Slice(shape, minus2, minus1) lead = Slice(shape, start, minus2)
    three = Concat <axis = 0> (minus1, keys, size) four = Concat <axis = 0> (lead, size, keys)
    k3 = Reshape(k, three) kt3 = Transpose <perm = [0, 2, 1]> (k3) kt = Reshape(kt3, four)
    a = Mul(q, c) e = Mul(kt, c) s = MatMul(a, e) {END}
    """
    graph, report = rewritten(model(body), feeds)
    assert report.after == {"Attention": 1}
    assert graph.nodes[0].inputs == ("q", "k", "v")
    assert graph.nodes[0].attributes["scale"] == 0.25


def test_k_that_comes_transposed(rewritten: Any, feeds: dict[str, np.ndarray]) -> None:
    text = model(f"m = MatMul(q, k) s = Mul(m, c) {END}").replace("[b, 3, n, 4] k", "[b, 3, 4, n] k")
    _, report = rewritten(text, {**feeds, "k": feeds["k"].swapaxes(-1, -2).copy()})
    assert report.after == {"Attention": 1, "Transpose": 1}


def test_three_axes(rewritten: Any, feeds: dict[str, np.ndarray]) -> None:
    three = {n: a[0] for n, a in feeds.items()}
    text = model(
        f"kt = Transpose <perm = [0, 2, 1]> (k) m = MatMul(q, kt) s = Add(m, add) {END}",
        shape="b, n, 4",
        masks="float[1, n, n] add",
    )
    del three["keep"]
    _, report = rewritten(text, three)
    assert report.after == {"Attention": 1, "Squeeze": 1, "Unsqueeze": 4}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{K} m = MatMul(q, kt) a = Add(m, add) s = Mul(a, c) {END}", "scaled together"),
        (f"{K} m = MatMul(q, kt) s = Mul(m, c) p = Softmax <axis = 2> (s) y = MatMul(p, v)", "last axis"),
        (f"{K} m = MatMul(q, kt) t = Mul(m, m) s = Add(t, add) {END}", "come from Mul"),
        (f"{K} m = MatMul(q, kt) t = Relu(m) s = Add(t, add) {END}", "which term is the scores"),
        (f"{K} m = MatMul(q, kt) s = Relu(m) {END}", "come from Relu"),
        (f"{K} m = MatMul(q, kt) s = Where(keep, m, c) {END}", "large negative"),
        (f"{K} m = MatMul(q, kt) e = MatMul(v, kt) s = Add(m, e) {END}", "which term is the scores"),
        (f"{K} m = MatMul(q, kt) e = MatMul(v, kt) r = Relu(e) s = Add(m, r) {END}", "from activations"),
        (
            f"{K} s = MatMul(q, kt) p = Softmax <axis = -1> (s) "
            "z = MatMul(p, v) t = MatMul(p, k) y = Add(z, t)",
            "other nodes read",
        ),
    ],
)
def test_left_alone_and_why(rewritten: Any, feeds: dict[str, np.ndarray], body: str, reason: str) -> None:
    _, report = rewritten(model(body), feeds)
    assert "Attention" not in report.after
    assert reason in "; ".join(report.missed.values())


def test_a_batch_that_broadcasts_is_left_alone(rewritten: Any, feeds: dict[str, np.ndarray]) -> None:
    text = model(f"{K} s = MatMul(q, kt) {END}").replace("[b, 3, n, 4] q", "[1, 3, n, 4] q")
    _, report = rewritten(text, {**feeds, "q": feeds["q"][:1]})
    assert report.after["Softmax"] == 1
