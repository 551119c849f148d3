"""Keys and values that were repeated for groups of heads enter Attention once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

G = 2  # key heads, each for three of the queries'

FIXED = """
one = Shape <start = 0, end = 1> (k) n = Shape <start = 2, end = 3> (k)
wide = Concat <axis = 0> (one, two, three, n, four) flat = Concat <axis = 0> (one, six, n, four)
"""
# expand() as TorchScript writes it: -1 where the dimension stays, replaced by 1 at run time.
TRACED = """
shape = Shape(k) b0 = Gather(shape, zero0) h0 = Gather(shape, one0) n0 = Gather(shape, two0)
b = Unsqueeze(b0, zero) h = Unsqueeze(h0, zero) n = Unsqueeze(n0, zero)
wanted = Concat <axis = 0> (b, h, three, n, four)
len = Shape(wanted) ones = ConstantOfShape <value = int64[1] {1}> (len) minus = Mul(ones, minus1)
same = Equal(wanted, minus) wide = Where(same, ones, wanted)
times = Mul(h0, three0) g = Unsqueeze(times, zero) flat = Concat <axis = 0> (b, g, n, four)
"""
# As onnxruntime simplifies it: one Split for all that is picked from a shape.
SPLIT = """
shape = Shape(k) b, h, n, s = Split <axis = 0> (shape, ones4) b0 = Squeeze(b, zero) b1 = Unsqueeze(b0, zero)
wide = Concat <axis = 0> (b1, h, three, n, s) flat = Concat <axis = 0> (b1, six, n, s)
"""
NUMBERS = """
<int64[1] zero = {0}, int64[1] one1 = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] four = {4},
 int64[4] ones4 = {1, 1, 1, 1}, int64[1] six = {6},
 int64 zero0 = {0}, int64 one0 = {1}, int64 two0 = {2}, int64 three0 = {3},
 int64 minus1 = {-1}, int64[4] copy = {0, 6, -1, 4}>
"""


def model(
    shapes: str, axis: str = "two", flat: str = "flat", value: str = "rv", k: str = f"b, {G}, n, 4"
) -> str:
    repeated = " ".join(
        f"u{t} = Unsqueeze({t}, {axis}) e{t} = Expand(u{t}, wide) r{t} = Reshape(e{t}, {flat})" for t in "kv"
    )
    return f"""
    g (float[b, 6, m, 4] q, float[{k}] k, float[{k}] v, float[b, 6, n, 4] w, bool[b, 1, m, n] mask)
    => (float[b, 6, m, 4] y) {NUMBERS}
    {{ {shapes} {repeated} y = Attention <scale = 0.3> (q, rk, {value}, mask) }}
    """


@pytest.fixture
def feeds(random: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {"q": (2, 6, 3, 4), "k": (2, G, 5, 4), "v": (2, G, 5, 4), "w": (2, 6, 5, 4)}
    made = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return {**made, "mask": random.integers(0, 2, (2, 1, 3, 5)).astype(bool) | (np.arange(5) == 0)}


@pytest.mark.parametrize("shapes", [FIXED, TRACED, SPLIT])
@pytest.mark.parametrize("flat", ["flat", "copy"])
def test_repeated(rewritten: Any, feeds: dict[str, np.ndarray], shapes: str, flat: str) -> None:
    graph, report = rewritten(model(shapes, flat=flat), feeds, opset=23)
    assert report.rules["grouped heads"] == 1
    assert report.after == {"Attention": 1}
    assert graph.nodes[0].inputs == ("q", "k", "v", "mask")
    assert graph.nodes[0].attributes["scale"] == pytest.approx(0.3)


def test_heads_known_at_run_time_only(rewritten: Any, feeds: dict[str, np.ndarray]) -> None:
    _, report = rewritten(model(TRACED, k="b, h, n, 4"), feeds, opset=23)
    assert report.after == {"Attention": 1}


@pytest.mark.parametrize(
    "text",
    [
        model(FIXED.replace("two, three", "three, two"), axis="one1"),  # each group once, again and again
        model(FIXED, value="w"),  # only the keys
        model(FIXED, k=f"1, {G}, n, 4").replace(
            "Shape <start = 0, end = 1> (k)", "Shape <start = 0, end = 1> (q)"
        ),
    ],
)
def test_left_alone(rewritten: Any, feeds: dict[str, np.ndarray], text: str) -> None:
    if f"float[1, {G}" in text:
        feeds = {**feeds, "k": feeds["k"][:1], "v": feeds["v"][:1]}
    _, report = rewritten(text, feeds, opset=23)
    assert "grouped heads" not in report.rules
    assert report.after["Expand"] >= 1
