"""onnxruntime's own operators become standard ones with the same results, in all their forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load

F, I32, I64 = np.float32, np.int32, np.int64
B, S, N, H = 2, 5, 3, 4  # batch, sequence, heads, size of a head


def one_node(
    op: str,
    inputs: dict[str, np.ndarray | None],
    weights: dict[str, np.ndarray] | None = None,
    outputs: int | tuple[str, ...] = 1,
    domain: str = "com.microsoft",
    opset: int = 17,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node; `inputs` in order (None: absent); those in `weights` are initializers."""
    weights = weights or {}
    names = [n if a is not None or n in weights else "" for n, a in inputs.items()]
    outs = [f"y{k}" for k in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = helper.make_node(op, names, outs, name="node", domain=domain, **attributes)
    feeds = {n: a for n, a in inputs.items() if a is not None and n not in weights}

    def info(name: str, a: np.ndarray) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(a.dtype)
        return helper.make_tensor_value_info(
            name, kind, [f"{name}_{k}" for k in range(a.ndim - 1)] + [a.shape[-1]]
        )

    graph = helper.make_graph(
        [node],
        "g",
        [info(n, a) for n, a in feeds.items()],
        [onnx.ValueInfoProto(name=o) for o in outs if o],
        [onnx.numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    for o in model.graph.output:
        o.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model, feeds


@pytest.fixture
def normal(random: np.random.Generator) -> Any:
    return lambda *shape: random.normal(size=shape).astype(F)


def test_activations(rewritten: Any, normal: Any) -> None:
    x, b = 3 * normal(2, 3, 8), normal(8)
    for op, inputs, expected in [
        ("Gelu", {"x": x}, {"Gelu": 1}),
        ("BiasGelu", {"x": x, "b": b}, {"Add": 1, "Gelu": 1}),
        ("FastGelu", {"x": x}, {"Gelu": 1}),
        ("FastGelu", {"x": x, "b": b}, {"Add": 1, "Gelu": 1}),
        ("QuickGelu", {"x": x}, {"Swish": 1}),
    ]:
        model, feeds = one_node(op, inputs)
        _, report = rewritten(model, feeds, atol=1e-4)
        assert report.after == expected
        assert report.rules == {f"com.microsoft {op}": 1}
    model, feeds = one_node("QuickGelu", {"x": x}, alpha=1.0)
    graph, _ = rewritten(model, feeds)
    assert graph.nodes[0].attributes["alpha"] == 1.0


def test_bias_split_gelu(normal: Any, run_model: Any) -> None:
    """onnxruntime has it only for other devices, so it is compared with its definition."""
    x, b = normal(2, 3, 8), normal(8)
    proto, feeds = one_node("BiasSplitGelu", {"x": x, "b": b})
    model = ir.from_proto(proto)
    canonicalise(model)
    first, second = np.split(x + b, 2, axis=-1)
    gelu = run_model(one_node("Gelu", {"x": second})[0], {"x": second})[0]
    np.testing.assert_allclose(run_model(ir.to_proto(model), feeds)[0], first * gelu, atol=1e-6)


def test_normalisations(rewritten: Any, normal: Any) -> None:
    """In the domain "", where onnxruntime puts them, LayerNormalization even before the standard had it."""
    x, scale, bias = normal(2, 3, 8), normal(8), normal(8)
    options = {"domain": "", "axis": -1, "epsilon": 1e-3}
    model, feeds = one_node("SimplifiedLayerNormalization", {"x": x, "s": scale}, **options)
    _, report = rewritten(model, feeds)
    assert report.after == {"RMSNormalization": 1}
    model, feeds = one_node("LayerNormalization", {"x": x, "s": scale, "b": bias}, opset=14, **options)
    _, report = rewritten(model, feeds)
    assert report.after == {"LayerNormalization": 1}


def test_normalisations_after_a_sum(rewritten: Any, normal: Any) -> None:
    x, skip, scale, shift, bias = normal(2, 3, 8), normal(2, 3, 8), normal(8), normal(8), normal(8)
    weights = {"s": scale, "t": shift, "b": bias}
    cases: list[tuple[str, dict[str, Any], dict[str, int]]] = [
        ("SkipLayerNormalization", {"x": x, "k": skip, "s": None}, {"Add": 1}),
        ("SkipLayerNormalization", {"x": x, "k": skip, "s": None, "t": None}, {"Add": 1}),
        ("SkipLayerNormalization", {"x": x, "k": skip, "s": None, "t": None, "b": None}, {"Add": 2}),
        ("SkipLayerNormalization", {"x": x, "k": skip[:1], "s": None, "t": None}, {"Add": 1}),
        ("SkipSimplifiedLayerNormalization", {"x": x, "k": skip, "s": None}, {"Add": 1}),
        ("SkipSimplifiedLayerNormalization", {"x": x, "k": skip, "s": None, "b": None}, {"Add": 2}),
    ]
    for op, inputs, adds in cases:
        kind = "RMSNormalization" if "Simplified" in op else "LayerNormalization"
        given = {n: a for n, a in weights.items() if n in inputs}
        model, feeds = one_node(op, inputs, given, outputs=("y", "", "", "sum"), epsilon=1e-3)
        _, report = rewritten(model, feeds)
        assert report.after == {**adds, kind: 1}


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("segments", [False, True])
def test_embedding(rewritten: Any, normal: Any, random: Any, positions: bool, segments: bool) -> None:
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I32)
    inputs = {
        "ids": random.integers(0, 9, (B, S)).astype(I32),
        "kinds": random.integers(0, 2, (B, S)).astype(I32) if segments else None,
        "words": None,
        "places": None,
        "kind_table": None,
        "scale": None,
        "shift": None,
        "mask": mask,
        "positions": random.integers(0, 7, (B, S)).astype(I32) if positions else None,
    }
    weights = {"words": normal(9, 8), "places": normal(7, 8), "scale": normal(8), "shift": normal(8)}
    if segments:
        weights["kind_table"] = normal(2, 8)
    model, feeds = one_node("EmbedLayerNormalization", inputs, weights, ("y", "lengths"), epsilon=1e-5)
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    _, report = rewritten(model, feeds)
    assert report.after["LayerNormalization"] == 1


@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((2, 3, 4), (2, 4, 5), {"alpha": 0.5}),
        ((2, 4, 3), (4, 5), {"transA": 1}),
        ((2, 3, 4), (2, 5, 4), {"transB": 1}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((2, 3, 4), (5, 2, 4), {"transBatchB": 1, "transB": 1}),
        ((4, 2, 3), (2, 4, 5), {"transA": 1, "transBatchA": 1, "alpha": 2.0}),
    ],
)
def test_fused_matmul(rewritten: Any, normal: Any, a: Any, b: Any, attributes: Any) -> None:
    model, feeds = one_node("FusedMatMul", {"a": normal(*a), "b": normal(*b)}, **attributes)
    _, report = rewritten(model, feeds)
    assert report.after["MatMul"] == 1
    assert ("Mul" in report.after) == ("alpha" in attributes)


@pytest.mark.parametrize(
    "activation",
    [{"activation": "Relu"}, {"activation": "LeakyRelu", "activation_alpha": 0.3}, {"activation": "Tanh"}],
)
def test_fused_gemm_and_convolution(rewritten: Any, normal: Any, activation: dict[str, Any]) -> None:
    weights = {"b": normal(5, 4), "c": normal(5)}
    model, feeds = one_node(
        "FusedGemm", {"a": normal(3, 4), "b": None, "c": None}, weights, transB=1, alpha=0.5, **activation
    )
    _, report = rewritten(model, feeds)
    name, slope = activation["activation"], activation.get("activation_alpha")
    assert report.after == {"Gemm": 1, name: 1}
    given = {"activation": name, **({"activation_params": [slope]} if slope else {})}
    inputs = {"a": normal(1, 2, 6, 6), "w": None, "c": None}
    weights = {"w": normal(3, 2, 3, 3), "c": normal(3)}
    model, feeds = one_node("FusedConv", inputs, weights, pads=[1, 1, 1, 1], **given)
    _, report = rewritten(model, feeds)
    assert report.after == {"Conv": 1, name: 1}


def test_an_activation_nobody_knows(normal: Any) -> None:
    proto, _ = one_node("FusedGemm", {"a": normal(3, 4), "b": normal(4, 4)}, activation="Hump")
    report = canonicalise(ir.from_proto(proto))
    assert report.missed == {"node": "its activation Hump is not supported"}
    assert report.after == {"FusedGemm": 1}


def test_an_operator_nobody_knows(normal: Any) -> None:
    proto, _ = one_node("Sampling", {"a": normal(3, 4)})
    report = canonicalise(ir.from_proto(proto))
    assert report.missed == {"node": "Sampling of com.microsoft has no standard form"}


def test_read_from_a_file(tmp_path: Any, normal: Any) -> None:
    """The checker would refuse names outside the standard, and a domain that is not imported."""
    model, _ = one_node("SimplifiedLayerNormalization", {"x": normal(2, 8), "s": normal(8)}, domain="")
    model.graph.node.append(helper.make_node("Gelu", ["y0"], ["z"], domain="com.microsoft"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 8]))
    del model.opset_import[1]
    onnx.save(model, tmp_path / "m.onnx")
    report = canonicalise(load(tmp_path / "m.onnx"))
    assert report.after == {"Gelu": 1, "RMSNormalization": 1}
