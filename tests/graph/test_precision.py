"""A model in half, bfloat16 or double precision becomes one in single; its weights stay in their file."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.run import run_graph

KINDS = {
    "float16": (np.dtype(np.float16), 10),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), 16),
    "double": (np.dtype(np.float64), 11),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_normalisation_computed_in_single_precision(kind: str, tmp_path: Path) -> None:
    """As exporters write it for a model in half precision: up, normalise, down, scale, and a product."""
    dtype, code = KINDS[kind]
    random = np.random.default_rng(1)
    scale, weight = (random.normal(size=n).astype(dtype) for n in ((64,), (64, 32)))
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g ({kind}[n, 64] x) => ({kind}[n, 32] y)
        <{kind}[64] scale, {kind}[64, 32] weight,
         int64[1] last = {{-1}}, float eps = {{1e-6}}, float two = {{2}}>
        {{
            u = Cast <to = 1> (x) s = Pow(u, two) m = ReduceMean(s, last) e = Add(m, eps) r = Sqrt(e)
            n = Div(u, r) d = Cast <to = {code}> (n) z = Mul(scale, d)
            k = Constant <value_float = 0.5> () h = Cast <to = {code}> (k) q = Mul(z, h)
            y = MatMul(q, weight)
        }}
        """
    )
    for tensor in list(model.graph.initializer):
        if tensor.name in ("scale", "weight"):
            model.graph.initializer.remove(tensor)
    model.graph.initializer.extend(
        [onnx.numpy_helper.from_array(scale, "scale"), onnx.numpy_helper.from_array(weight, "weight")]
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="data", size_threshold=256)

    loaded = load(path)
    report = canonicalise(loaded)
    graph = to_graph(loaded)
    assert report.after == {"MatMul": 1, "RMSNormalization": 1}
    assert "single precision" in report.rules
    types = [*graph.inputs.values(), *graph.outputs.values()]
    assert {t.dtype for t in types} == {np.dtype(np.float32)}
    assert {i.dtype for i in graph.initializers.values()} == {np.dtype(np.float32)}

    x = random.normal(size=(3, 64)).astype(np.float32)
    narrow = [a.astype(np.float64) for a in (scale, weight)]
    expected = x / np.sqrt(np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True) + 1e-6)
    expected = 0.5 * expected * narrow[0] @ narrow[1]
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


def test_a_model_in_single_precision_stays(tmp_path: Path) -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[2] x) => (int64[2] y) { y = Cast <to = 7> (x) }'
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    report = canonicalise(model)
    assert report.rules == {}
    assert to_graph(model).outputs["y"].dtype == np.int64


CASTS = "a = Cast <to = 1> (t) b = Cast <to = 1> (r) c = MatMul(b, a)"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("nodes", "rounds"),
    [
        (f"t = Transpose(w) r = Gather(w, x) {CASTS} y = Identity(c)", False),
        (
            f"t = Transpose(w) r = Gather(w, x) {CASTS} h = MatMul(r, t) s = Cast <to = 1> (h) y = Add(c, s)",
            True,
        ),
        (f"t = Neg(w) r = Gather(w, x) {CASTS} y = Identity(c)", True),
    ],
    ids=["cast", "cast and computed", "computed"],
)
def test_weights_that_are_only_stored_in_another_type_round_nothing(
    kind: str, nodes: str, rounds: bool, tmp_path: Path
) -> None:
    dtype, _ = KINDS[kind]
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (int64[n] x) => (float[n, 256] y) <{kind}[256, 64] w> {{ {nodes} }}"""
    )
    weight = np.random.default_rng(4).normal(size=(256, 64)).astype(dtype)
    del model.graph.initializer[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    loaded = ir.from_proto(model)
    report = canonicalise(loaded)
    assert ("single precision" in report.rules) == rounds
    assert "Cast" not in report.after
    if not rounds:
        (kept,) = [i for i in to_graph(loaded).initializers.values() if i.size == weight.size]
        np.testing.assert_array_equal(kept.numpy(), weight.astype(np.float32))
