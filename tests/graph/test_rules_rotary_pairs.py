"""Rotary embedding of neighbours, and of heads that come after the positions, is recognised too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
int64[1] zero = {0}, int64[1] one = {1}, int64[1] half = {2}, int64[1] end = {9223372036854775807},
int64[1] axis = {3}, int64[1] two = {2}, int64[1] last = {-1}, int64[4] twice = {1, 1, 1, 2},
float[2] frequencies = {1.0, 0.1}
"""
SECONDS = "even = Slice(x, zero, end, axis, two) odd = Slice(x, one, end, axis, two)"
ANGLES = "a = Mul(position, frequencies) u = Unsqueeze(a, last)"
EXPANDED = "size = Shape(a) wide = Concat <axis = 0> (size, two) d = Expand(u, wide)"
JOINED = "lead = Slice(size, zero, half) shape = Concat <axis = 0> (lead, last) both = Reshape(d, shape)"
TABLES = "c = Cos(both) s = Sin(both) cos = Unsqueeze(c, one) sin = Unsqueeze(s, one)"
PAIRS = "n = Neg(odd) un = Unsqueeze(n, last) ue = Unsqueeze(even, last) pairs = Concat <axis = -1> (un, ue)"
TURN = "of = Shape(x) t = Reshape(pairs, of) p = Mul(x, cos) q = Mul(t, sin) y = Add(p, q)"


def model(body: str, shape: str = "b, 3, n, 4") -> str:
    return f"g (float[{shape}] x, float[b, n, 1] position) => (float[{shape}] y) <{NUMBERS}> {{ {body} }}"


@pytest.fixture
def feeds(random: np.random.Generator) -> dict[str, np.ndarray]:
    position = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
    return {"x": random.normal(size=(2, 3, 5, 4)).astype(np.float32), "position": position}


@pytest.mark.parametrize("doubled", [EXPANDED, "d = Tile(u, twice) size = Shape(d)"])
def test_neighbours(rewritten: Any, feeds: dict[str, np.ndarray], doubled: str) -> None:
    graph, report = rewritten(model(f"{SECONDS} {ANGLES} {doubled} {JOINED} {TABLES} {PAIRS} {TURN}"), feeds)
    assert report.rules["RotaryEmbedding (interleaved)"] == 1
    (rotary,) = (n for n in graph.nodes if n.op == "RotaryEmbedding")
    assert rotary.inputs[0] == "x"
    assert rotary.attributes["interleaved"] == 1
    assert not {"Neg", "Add"} & set(report.after)


@pytest.mark.parametrize("neighbours", [True, False])
def test_heads_behind_the_positions(rewritten: Any, feeds: dict[str, np.ndarray], neighbours: bool) -> None:
    tables = "c = Cos(both) s = Sin(both) cos = Unsqueeze(c, two) sin = Unsqueeze(s, two)"
    if neighbours:
        body = f"{SECONDS} {ANGLES} {EXPANDED} {JOINED} {tables} {PAIRS} {TURN}"
    else:
        body = f"""
        x1 = Slice(x, zero, half, axis) x2 = Slice(x, half, end, axis) a = Mul(position, frequencies)
        both = Concat <axis = -1> (a, a) {tables} n = Neg(x2) t = Concat <axis = -1> (n, x1)
        p = Mul(x, cos) q = Mul(t, sin) y = Add(p, q)
        """
    feeds = {**feeds, "x": feeds["x"].transpose(0, 2, 1, 3).copy()}
    _, report = rewritten(model(body, "b, n, 3, 4"), feeds)
    assert report.after["RotaryEmbedding"] == 1
    assert report.after["Transpose"] == 2


@pytest.mark.parametrize(
    "body",
    [
        # the two halves of the angles in sequence, as for halves
        f"{SECONDS} a = Mul(position, frequencies) both = Concat <axis = -1> (a, a) {TABLES} {PAIRS} {TURN}",
        # even and odd exchanged
        f"{SECONDS} {ANGLES} {EXPANDED} {JOINED} {TABLES} "
        f"{PAIRS.replace('odd', 'other').replace('even', 'odd').replace('other', 'even')} {TURN}",
        # the turned entries not side by side
        f"{SECONDS} {ANGLES} {EXPANDED} {JOINED} {TABLES} n = Neg(odd) un = Unsqueeze(n, axis) "
        f"ue = Unsqueeze(even, axis) pairs = Concat <axis = 3> (un, ue) {TURN}",
    ],
)
def test_left_alone(rewritten: Any, feeds: dict[str, np.ndarray], body: str) -> None:
    _, report = rewritten(model(body), feeds)
    assert "RotaryEmbedding" not in report.after
