"""Operators without a kernel become what the standard makes them of, and compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.expand import expand_functions
from onnxpuma.graph.model import to_graph

KERNELS = (
    *("Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "Exp", "Log", "Abs", "Max", "Min", "Where"),
    *("MatMul", "Relu", "Erf", "Tanh", "Sigmoid", "Less", "Greater", "Equal", "Not", "And", "Or", "Cast"),
    *("ReduceSum", "ReduceMean", "ReduceMax", "Reshape", "Transpose", "Concat", "Slice", "Shape", "Identity"),
    *(
        "Unsqueeze",
        "Squeeze",
        "Expand",
        "Constant",
        "Gather",
        "Split",
        "ConstantOfShape",
        "Softmax",
        "Flatten",
    ),
    *("Size", "Range", "If", "Pow", "Round", "Clip", "Sum"),
)


def run(text: str, feeds: dict[str, np.ndarray], run_model: Any, supported: Any = KERNELS) -> tuple[Any, Any]:
    """(what was expanded, the graph), after holding that the results are the same."""
    before = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]> {text}')
    model = ir.from_proto(before)
    canonicalise(model)
    expanded = expand_functions(model, supported)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    for was, now in zip(run_model(before, feeds), run_model(after, feeds), strict=True):
        np.testing.assert_allclose(now, was, rtol=1e-4, atol=1e-5)
    return expanded, to_graph(model)


@pytest.mark.parametrize(
    "body",
    [
        "y = Celu <alpha = 0.7> (x)",
        "y = Elu <alpha = 0.7> (x)",
        "y = Selu(x)",
        "y = HardSigmoid <alpha = 0.3> (x)",
        "y = HardSwish(x)",
        "y = LeakyRelu(x)",
        "y = Mish(x)",
        "y = Softplus(x)",
        "y = Softsign(x)",
        "y = Shrink <bias = 0.1, lambd = 0.4> (x)",
        "y = ThresholdedRelu <alpha = 0.6> (x)",
        'y = Gelu <approximate = "tanh"> (x)',
        "y = LogSoftmax <axis = 1> (x)",
        "y = ReduceL2 <keepdims = 1> (x, one)",
        "y = ReduceLogSumExp <keepdims = 1> (x, one)",
        "y = ReduceSumSquare <keepdims = 0> (x, one)",
        "y = MeanVarianceNormalization <axes = [0, 1]> (x)",
        "y = LayerNormalization <axis = -1> (x, scale, shift)",
        "y = GroupNormalization <num_groups = 2> (x, scale, shift)",
        "y = PRelu(x, scale)",
    ],
)
def test_one_operator(body: str, run_model: Any, random: np.random.Generator) -> None:
    shape = "float[n, 1, 4]" if "keepdims = 1" in body else "float[n, 4, 4]"
    shape = "float[n, 4]" if "keepdims = 0" in body else shape
    text = f"""
    g (float[n, 4, 4] x) => ({shape} y)
    <int64[1] one = {{1}}, float[4] scale = {{0.1, 0.2, 0.3, 0.4}}, float[4] shift = {{1, -1, 2, -2}}>
    {{ {body} }}
    """
    expanded, graph = run(text, {"x": random.normal(size=(2, 4, 4)).astype(np.float32)}, run_model)
    assert list(expanded.values()) == [body.split()[2].split("(")[0]]
    assert set(graph.histogram()) <= set(KERNELS)


def test_attention_and_rotation(run_model: Any, random: np.random.Generator) -> None:
    before = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (float[b, 2, n, 4] x, float[b, n, 2] cos, float[b, n, 2] sin) => (float[b, 2, n, 4] y)
        { r = RotaryEmbedding(x, cos, sin) y = Attention <is_causal = 1> (r, r, x) }"""
    )
    model = ir.from_proto(before)
    canonicalise(model)
    expanded = expand_functions(model, KERNELS)
    assert sorted(expanded.values()) == ["Attention", "RotaryEmbedding"]
    assert not {"Attention", "RotaryEmbedding", "CastLike"} & set(to_graph(model).histogram())
    feeds = {n: random.normal(size=s).astype(np.float32) for n, s in
             {"x": (2, 2, 3, 4), "cos": (2, 3, 2), "sin": (2, 3, 2)}.items()}  # fmt: skip
    for was, now in zip(run_model(before, feeds), run_model(ir.to_proto(model), feeds), strict=True):
        np.testing.assert_allclose(now, was, atol=1e-5)


def test_what_is_supported_stays(run_model: Any) -> None:
    text = "g (float[n, 4] x) => (float[n, 4] y) { a = Softplus(x) y = Mish(a) }"
    x = {"x": np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4)}
    expanded, graph = run(text, x, run_model, [*KERNELS, "Softplus"])
    assert list(expanded.values()) == ["Mish"]
    assert graph.histogram()["Softplus"] == 2
    expanded, graph = run(text, x, run_model, [*KERNELS, "Softplus", "Mish"])
    assert expanded == {}
    assert graph.histogram() == {"Softplus": 1, "Mish": 1}


def test_only_the_nodes_named(run_model: Any) -> None:
    source = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 22]>
        g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z)
        { [first] y = Mish(x) [second] z = Mish(y) }"""
    )
    model = ir.from_proto(source)
    canonicalise(model)
    assert expand_functions(model, KERNELS, ["second"]) == {"second": "Mish"}
    assert to_graph(model).histogram()["Mish"] == 1


def test_without_a_body() -> None:
    source = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 22]>
        g (float[n, 4] x) => (float[n, 4] y) { y = Sin(x) }"""
    )
    model = ir.from_proto(source)
    assert expand_functions(model, KERNELS) == {}
    assert [n.op_type for n in model.graph] == ["Sin"]


def test_inside_a_branch(run_model: Any) -> None:
    text = """
    g (bool choose, float[2] x) => (float[2] y)
    {
        y = If (choose) <
            then_branch = yes () => (float[2] a) { a = Mish(x) },
            else_branch = no () => (float[2] b) { b = Neg(x) }
        >
    }
    """
    feeds = {"choose": np.array(True), "x": np.array([1.0, -2.0], np.float32)}
    expanded, graph = run(text, feeds, run_model)
    assert list(expanded.values()) == ["Mish"]
    assert "Mish" not in graph.histogram()
