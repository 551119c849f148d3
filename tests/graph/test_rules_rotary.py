"""Written-out rotary embedding is recognised; its tables become half as wide, one per batch element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NUMBERS = """
int64[1] zero = {0}, int64[1] half = {2}, int64[1] end = {9223372036854775807}, int64[1] axis = {3},
int64[1] heads = {1}, float[2] frequencies = {1.0, 0.1}, float factor = {1.2}
"""
HALVES = "x1 = Slice(x, zero, half, axis) x2 = Slice(x, half, end, axis)"
ANGLES = "a = Mul(position, frequencies) both = Concat <axis = -1> (a, a)"
TABLES = "c = Cos(both) s = Sin(both) cos = Unsqueeze(c, heads) sin = Unsqueeze(s, heads)"
TURN = "n = Neg(x2) t = Concat <axis = -1> (n, x1) p = Mul(x, cos) q = Mul(t, sin) y = Add(p, q)"


def model(body: str) -> str:
    return f"""
    g (float[b, 3, n, 4] x, float[r, n, 1] position) => (float[b, 3, n, 4] y) <{NUMBERS}> {{ {body} }}
    """


@pytest.fixture
def feeds(random: np.random.Generator) -> list[dict[str, np.ndarray]]:
    """Inputs with one row of positions for the whole batch, and with one for each element."""
    x = random.normal(size=(2, 3, 5, 4)).astype(np.float32)
    positions = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
    return [{"x": x, "position": positions[:1]}, {"x": x, "position": positions}]


@pytest.mark.parametrize("halves", [HALVES, "x1, x2 = Split <axis = -1, num_outputs = 2> (x)"])
@pytest.mark.parametrize(
    "tables",
    [
        TABLES,
        "d = Cos(both) c = Mul(d, factor) e = Sin(both) s = Mul(e, factor) "
        "cos = Unsqueeze(c, heads) sin = Unsqueeze(s, heads)",
    ],
)
def test_rotary(rewritten: Any, feeds: list[dict[str, np.ndarray]], halves: str, tables: str) -> None:
    graph, report = rewritten(model(f"{halves} {ANGLES} {tables} {TURN}"), *feeds)
    assert report.rules["RotaryEmbedding"] == 1
    assert report.after["RotaryEmbedding"] == 1
    assert "Neg" not in report.after
    (rotary,) = (n for n in graph.nodes if n.op == "RotaryEmbedding")
    assert rotary.inputs[0] == "x"


@pytest.mark.parametrize(
    "body",
    [
        # tables whose halves differ
        f"{HALVES} r = Neg(position) a = Mul(position, frequencies) a2 = Mul(r, frequencies) "
        f"both = Concat <axis = -1> (a, a2) {TABLES} {TURN}",
        # the second half turned to the wrong side
        f"{HALVES} {ANGLES} {TABLES} "
        "n = Neg(x1) t = Concat <axis = -1> (n, x2) p = Mul(x, cos) q = Mul(t, sin) y = Add(p, q)",
    ],
)
def test_left_alone(rewritten: Any, feeds: list[dict[str, np.ndarray]], body: str) -> None:
    _, report = rewritten(model(body), *feeds)
    assert "RotaryEmbedding" not in report.after


def test_tables_of_batch_one_are_repeated(rewritten: Any, random: np.random.Generator, parsed: Any) -> None:
    """The standard wants one table per element of the batch; exporters write one for all."""
    text = "g (float[b, 3, n, 4] x, float[1, n, 2] c, float[1, n, 2] s) => (float[b, 3, n, 4] y)"
    source = parsed(f"{text} {{ y = RotaryEmbedding(x, c, s) }}", 23)
    tables = {name: random.normal(size=(1, 5, 2)).astype(np.float32) for name in "cs"}
    single = random.normal(size=(1, 3, 5, 4)).astype(np.float32)
    graph, report = rewritten(source, {"x": single, **tables})
    assert report.rules["RotaryEmbedding tables repeated"] == 1
    assert [n.op for n in graph.nodes].count("Expand") == 2
