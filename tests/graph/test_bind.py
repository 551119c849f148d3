"""Inputs fixed to values: a merged decoder becomes the chosen branch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.graph.bind import bind
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.model import to_graph

# Two decoders as optimum merges them: weights outside, each branch whole, the cache used in one of them.
MERGED = """
<ir_version: 10, opset_import: ["" : 17]>
g (bool[1] use_cache_branch, float[b, n, 4] x, float[b, 2, p, 2] past)
=> (float[b, n, 4] y, float[b, 2, t, 2] present)
<float[4, 4] w = {1,0,2,0, 0,1,0,2, 1,1,0,0, 0,0,1,1}, int64[4] heads = {0, 0, 2, 2},
 int64[3] flat = {0, 0, 4}, float root = {1.4142135}>
{
    y, present = If (use_cache_branch) <
        then_branch = with_past () => (float[b, n, 4] y1, float[b, 2, t, 2] present1) {
            h1 = MatMul(x, w) r1 = Reshape(h1, heads) q1 = Transpose <perm = [0, 2, 1, 3]> (r1)
            present1 = Concat <axis = 2> (past, q1)
            k1 = Transpose <perm = [0, 1, 3, 2]> (present1) s1 = MatMul(q1, k1) d1 = Div(s1, root)
            p1 = Softmax <axis = -1> (d1) o1 = MatMul(p1, present1)
            t1 = Transpose <perm = [0, 2, 1, 3]> (o1) y1 = Reshape(t1, flat)
        },
        else_branch = without () => (float[b, n, 4] y2, float[b, 2, t, 2] present2) {
            h2 = MatMul(x, w) r2 = Reshape(h2, heads) present2 = Transpose <perm = [0, 2, 1, 3]> (r2)
            k2 = Transpose <perm = [0, 1, 3, 2]> (present2) s2 = MatMul(present2, k2) d2 = Div(s2, root)
            p2 = Softmax <axis = -1> (d2) o2 = MatMul(p2, present2)
            t2 = Transpose <perm = [0, 2, 1, 3]> (o2) y2 = Reshape(t2, flat)
        }
    >
}
"""


@pytest.mark.parametrize("cached", [True, False])
def test_a_merged_decoder(cached: bool, run_model: Any, random: np.random.Generator) -> None:
    before = onnx.parser.parse_model(MERGED)
    model = ir.from_proto(before)
    bind(model, {"use_cache_branch": cached})
    report = canonicalise(model)
    graph = to_graph(model)
    assert list(graph.inputs) == ["x", "past"]
    assert report.after["Attention"] == 1
    assert ("Concat" in report.after) == cached
    assert "If" not in report.after
    feeds = {
        "x": random.normal(size=(2, 3, 4)).astype(np.float32),
        "past": random.normal(size=(2, 2, 5, 2)).astype(np.float32),
    }
    was = run_model(before, {**feeds, "use_cache_branch": np.array([cached])})
    for a, b in zip(was, run_model(ir.to_proto(model), feeds), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_a_branch_that_stays(rewritten: Any, random: np.random.Generator) -> None:
    """Without a value, both branches get the canonical form."""
    feeds = {
        "use_cache_branch": np.array([True]),
        "x": random.normal(size=(2, 3, 4)).astype(np.float32),
        "past": random.normal(size=(2, 2, 5, 2)).astype(np.float32),
    }
    graph, _ = rewritten(onnx.parser.parse_model(MERGED), feeds)
    counts = graph.histogram()
    assert (counts["If"], counts["Attention"]) == (1, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nothing": True}, "no input is named"),
        ({"use_cache_branch": 1}, "takes bool"),
        ({"use_cache_branch": np.array([True, False])}, "has shape"),
        ({"x": np.float32(1)}, "has shape"),
    ],
)
def test_values_that_do_not_fit(values: Any, message: str) -> None:
    model = ir.from_proto(onnx.parser.parse_model(MERGED))
    with pytest.raises(ConfigError, match=message):
        bind(model, values)
