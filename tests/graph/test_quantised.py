"""Quantised models become float ones, with exactly the weights that their integers represent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.visibility import classify

F = np.float32
DATA = Path(__file__).parent / "data"


def quantise(
    w: np.ndarray, axis: int | None, kind: Any = np.int8, unused: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(q, scale, zero point), with a separate zero point for each index of `axis`.

    unused: bits of the kind. With one, no sum of two products saturates: onnxruntime's dynamic products do
    where a processor lacks VNNI.
    """
    others = None if axis is None else tuple(a for a in range(w.ndim) if a != axis % w.ndim)
    low, high = w.min(axis=others), w.max(axis=others)
    least, most = (end >> unused for end in (np.iinfo(kind).min, np.iinfo(kind).max))
    scale = ((high - low) / (most - least)).astype(F)
    zero = np.rint(least - low / scale).astype(kind)
    wide = [1] * w.ndim
    if axis is not None:
        wide[axis] = -1
    q = np.rint(w / scale.reshape(wide) + zero.astype(F).reshape(wide))
    return q.clip(least, most).astype(kind), scale, zero


def real(q: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int | None) -> np.ndarray:
    wide = [1] * q.ndim
    if axis is not None:
        wide[axis] = -1
    return (q.astype(F) - zero.astype(F).reshape(wide)) * scale.reshape(wide)


@pytest.fixture
def x(random: np.random.Generator) -> np.ndarray:
    return random.normal(size=(3, 5, 8)).astype(F)


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize("form", ["integers", "dynamic", "to float"])
def test_dynamic_products(
    x: np.ndarray, random: Any, run_model: Any, form: str, axis: int | None, nodes_model: Any, canonical: Any
) -> None:
    q, scale, zero = quantise(random.normal(size=(8, 6)).astype(F), axis, unused=1)
    bias = random.normal(size=6).astype(F)
    weights = {"q": q, "scale": scale, "zero": zero, "bias": bias}
    dynamic = helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"])
    nodes = {
        "integers": [
            dynamic,
            helper.make_node("MatMulInteger", ["xq", "q", "xz", "zero"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["xs", "scale"], ["s"]),
            helper.make_node("Mul", ["f", "s"], ["p"]),
            helper.make_node("Add", ["bias", "p"], ["y"]),
        ],
        "dynamic": [
            helper.make_node(
                "DynamicQuantizeMatMul", ["x", "q", "scale", "zero", "bias"], ["y"], domain="com.microsoft"
            )
        ],
        "to float": [
            dynamic,
            helper.make_node(
                "MatMulIntegerToFloat",
                ["xq", "q", "xs", "scale", "xz", "zero", "bias"],
                ["y"],
                domain="com.microsoft",
            ),
        ],
    }[form]
    before = nodes_model(nodes, {"x": (None, None, 8)}, weights)
    graph, after = canonical(before)
    assert graph.histogram() == {"MatMul": 1, "Add": 1}
    found = run_model(after, {"x": x})[0]
    np.testing.assert_allclose(found, x @ real(q, scale, zero, axis) + bias, atol=1e-5)
    np.testing.assert_allclose(found, run_model(before, {"x": x})[0], atol=0.15)
    kernel = next(n for n in graph.initializers if n.startswith("q"))
    assert graph.initializers[kernel].dtype == F
    assert classify(graph)[kernel].secret


@pytest.mark.parametrize("axis", [0, 1, None])
def test_weights_stored_as_integers(
    x: np.ndarray, random: Any, run_model: Any, axis: int | None, nodes_model: Any, canonical: Any
) -> None:
    q, scale, zero = quantise(random.normal(size=(8, 6)).astype(F), axis, np.uint8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=axis or 0),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    _, after = canonical(nodes_model(nodes, {"x": (None, None, 8)}, {"q": q, "scale": scale, "zero": zero}))
    assert [n.op_type for n in after.graph.node] == ["MatMul"]
    # onnxruntime would round x too, for a product of integers; so compare with the definition.
    np.testing.assert_allclose(run_model(after, {"x": x})[0], x @ real(q, scale, zero, axis), atol=1e-5)


def test_a_table_shared_by_two(random: Any, run_model: Any, nodes_model: Any, canonical: Any) -> None:
    """An embedding and its tied head: one picks rows of the integers, the other transposes them."""
    q, scale, zero = quantise(random.normal(size=(20, 8)).astype(F), None)
    ids = np.array([[1, 2, 19], [0, 5, 5]])
    nodes = [
        helper.make_node("Gather", ["q", "ids"], ["rows"]),
        helper.make_node("DequantizeLinear", ["rows", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"]),
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    before = nodes_model(
        nodes, {"ids": (None, None)}, {"q": q, "scale": scale, "zero": zero}, kind=TensorProto.INT64
    )
    graph, after = canonical(before)
    assert graph.histogram()["Gather"] == 1
    assert "DequantizeLinear" not in graph.histogram()
    np.testing.assert_allclose(
        run_model(after, {"ids": ids})[0], run_model(before, {"ids": ids})[0], atol=1e-5
    )


@pytest.mark.parametrize(
    ("before", "zero", "step", "kept"),
    [
        ("Neg", np.int8(-128), 0.02, "Clip"),
        ("Neg", np.int8(3), 0.02, "Clip"),
        ("Neg", np.uint16(40), 0.02, "Clip"),
        ("Neg", None, 0.02, "Clip"),
        ("Relu", np.uint8(0), 0.02, "Clip"),
        ("Sigmoid", np.int8(-128), 0.02, None),
        ("Sigmoid", np.int8(-128), 0.002, "Clip"),
        ("Tanh", np.int8(0), 1 / 127, None),
        ("Softmax", np.uint8(0), 1 / 256, None),
    ],
)
def test_activations_quantised_and_back(
    x: np.ndarray,
    run_model: Any,
    before: str,
    zero: Any,
    step: float,
    kept: str | None,
    nodes_model: Any,
    canonical: Any,
) -> None:
    """The range still cuts values off, at no cost where the values before cannot exceed it."""
    points = [] if zero is None else ["z"]
    nodes = [
        helper.make_node(before, ["x"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", *points], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "s", *points], ["y"]),
    ]
    weights = {"s": np.array(step, F), "shape": np.array([-1, 8])}
    if zero is not None:
        weights["z"] = np.array(zero)
    source = nodes_model(nodes, {"x": (None, None, 8)}, weights)
    graph, after = canonical(source)
    assert {"Relu", "Clip"} & set(graph.histogram()) == ({kept} if kept else set())
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(graph.histogram())
    wide = {"x": x * 9}
    found, expected = run_model(after, wide)[0], run_model(source, wide)[0]
    assert np.abs(found - expected).max() <= 1.01 * step


@pytest.mark.parametrize("read", ["by sum", "by row", "alone"])
def test_weights_do_not_decide_what_is_cut(random: Any, nodes_model: Any, canonical: Any, read: str) -> None:
    """The graph must not reveal whether a weight's numbers stay within a range."""
    look_up = helper.make_node("Gather", ["w", "ids"], ["a"])
    first = {
        "by sum": [helper.make_node("Sigmoid", ["x"], ["p"]), helper.make_node("Add", ["p", "w"], ["a"])],
        "by row": [look_up],
        "alone": [helper.make_node("Sigmoid", ["x"], ["p"]), helper.make_node("Sub", ["p", "w"], ["a"])],
    }[read]
    nodes = [
        *first,
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    size: tuple[int, ...] = {"by sum": (8,), "by row": (9, 8), "alone": ()}[read]
    numbers = random.uniform(0.1, 0.2, size).astype(F)
    seen = []
    for weight in (numbers, numbers * F(100)):
        held = {"w": weight, "s": np.array(0.05, F), "z": np.array(100, np.uint8)}
        if read == "by row":
            source = nodes_model(nodes, {"ids": (3,)}, held, kind=TensorProto.INT64)
        else:
            source = nodes_model(nodes, {"x": (3, 8)}, held)
        seen.append(canonical(source)[0].histogram())
    assert seen[0] == seen[1]


def test_a_range_is_cut_once(run_model: Any, x: np.ndarray, nodes_model: Any, canonical: Any) -> None:
    """After a Clip of the same range, moved or not, the next one is redundant; a Relu merges with it."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0, 2]),
        helper.make_node("QuantizeLinear", ["t", "s", "z"], ["u"]),
        helper.make_node("DequantizeLinear", ["u", "s", "z"], ["e"]),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    weights = {"s": np.array(0.05, F), "z": np.array(100, np.uint8)}
    source = nodes_model(nodes, {"x": (None, None, 8)}, weights)
    graph, after = canonical(source)
    assert graph.histogram() == {"Clip": 1, "Transpose": 1, "Relu": 1}
    np.testing.assert_allclose(
        run_model(after, {"x": 9 * x})[0], run_model(source, {"x": 9 * x})[0], atol=0.026
    )


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(-128)])
def test_a_range_for_each_channel(
    x: np.ndarray, run_model: Any, zero: np.int8, nodes_model: Any, canonical: Any
) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=2),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=2),
    ]
    steps = np.linspace(0.004, 0.03, 8, dtype=F)
    source = nodes_model(nodes, {"x": (None, None, 8)}, {"s": steps, "z": np.full(8, zero)})
    _, after = canonical(source)
    np.testing.assert_allclose(
        run_model(after, {"x": 3 * x})[0], run_model(source, {"x": 3 * x})[0], atol=0.016
    )


def test_another_scale_on_the_way_back_is_refused(nodes_model: Any) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "r", "z"], ["y"], name="node"),
    ]
    weights = {"s": np.array(0.05, F), "r": np.array(0.1, F), "z": np.array(100, np.uint8)}
    proto = nodes_model(nodes, {"x": (None, 8)}, weights)
    (reason,) = canonicalise(ir.from_proto(proto)).missed.values()
    assert reason == "a value is quantised with one scale and read with another"


def test_what_is_compared_for_equality_is_not_converted(nodes_model: Any) -> None:
    """Whether rounding changes a value cannot be told without rounding."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="node"),
        helper.make_node("Equal", ["x", "d"], ["e"]),
        helper.make_node("Where", ["e", "d", "x"], ["y"]),
    ]
    weights = {"s": np.array(0.05, F), "z": np.array(100, np.uint8)}
    proto = nodes_model(nodes, {"x": (None, 8)}, weights)
    (reason,) = canonicalise(ir.from_proto(proto)).missed.values()
    assert reason == "its result is compared for equality, and shares leave its rounding out"


def test_static_product_and_convolution(
    random: Any, run_model: Any, nodes_model: Any, canonical: Any
) -> None:
    """QLinearConv and QLinearMatMul between QuantizeLinear and DequantizeLinear."""
    x = random.uniform(-1, 1, (1, 2, 6, 6)).astype(F)
    kernel, scale, zero = quantise(random.normal(size=(3, 2, 3, 3)).astype(F), 0)
    zero[:] = 0  # as the standard requires of several
    second, second_scale, second_zero = quantise(random.normal(size=(4, 5)).astype(F), None)
    weights = {"xs": np.array(0.01, F), "xz": np.array(0, np.int8), "k": kernel, "ks": scale, "kz": zero}
    weights |= {"b": random.integers(-500, 500, 3).astype(np.int32)}
    weights |= {"ms": np.array(0.1, F), "mz": np.array(1, np.int8)}
    weights |= {"w": second, "ws": second_scale, "wz": second_zero}
    weights |= {"os": np.array(0.3, F), "oz": np.array(2, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "k", "ks", "kz", "ms", "mz", "b"], ["c"]),
        helper.make_node("QLinearMatMul", ["c", "ms", "mz", "w", "ws", "wz", "os", "oz"], ["m"]),
        helper.make_node("DequantizeLinear", ["m", "os", "oz"], ["y"]),
    ]
    before = nodes_model(nodes, {"x": (1, 2, 6, 6)}, weights)
    graph, after = canonical(before)
    assert graph.histogram() == {"Clip": 3, "Conv": 1, "MatMul": 1}
    np.testing.assert_allclose(run_model(after, {"x": x})[0], run_model(before, {"x": x})[0], atol=0.5)
    np.testing.assert_allclose(
        run_model(after, {"x": 3 * x})[0], run_model(before, {"x": 3 * x})[0], atol=0.5
    )


@pytest.mark.parametrize(
    "name", ["bert-torchscript-17", "gpt2-dynamo-20", "llama-torchscript-17", "vit-dynamo-20"]
)
@pytest.mark.parametrize("per_channel", [False, True])
def test_exported_models(
    name: str, per_channel: bool, run_model: Any, feeds_for: Any, holds: Any, tmp_path: Path
) -> None:
    source, target = DATA / f"{name}.onnx", tmp_path / "model.onnx"
    options = {"per_channel": per_channel, "weight_type": QuantType.QInt8, "reduce_range": True}
    quantize_dynamic(source, target, **options)
    made = load(target)
    report = canonicalise(made)
    assert report.missed == {}
    graph = to_graph(made)
    holds(name, graph)
    assert not any("Integer" in op or "Quantize" in op for op in graph.histogram())
    feeds = feeds_for(onnx.load(source), 2, 7)
    exact, found = (run_model(m, feeds)[0] for m in (onnx.load(source), ir.to_proto(made)))
    rounded = run_model(onnx.load(target), feeds)[0]
    size = np.abs(exact).max()
    assert np.abs(found - exact).max() < 0.1 * size
    assert np.abs(found - rounded).max() < 0.1 * size


def test_weights_stay_in_their_file(tmp_path: Path, random: Any, nodes_model: Any) -> None:
    """They are dequantised when they are read, and not before."""
    q = random.integers(-100, 100, (256, 256)).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    proto = nodes_model(nodes, {"x": (None, 256)}, {"q": q, "s": np.array(0.5, F)})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 256)))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024)
    made = load(tmp_path / "m.onnx")
    stored = made.graph.initializers["q"].const_value
    canonicalise(made)
    assert isinstance(stored, ir.ExternalTensor)
    assert stored.raw is None
    weight = to_graph(made).initializers["q_float"]
    np.testing.assert_array_equal(weight.numpy(), q * F(0.5))
    assert stored.raw is None


def test_what_is_left_alone_and_why(random: Any, nodes_model: Any) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["q"], to=TensorProto.INT8),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"], name="node"),
    ]
    proto = nodes_model(nodes, {"x": (None, 8)}, {"s": np.array(0.5, F)})
    assert canonicalise(ir.from_proto(proto)).missed == {"node": "a quantised value that Cast makes"}
