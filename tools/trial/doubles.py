"""A single-precision graph evaluated in double precision, node by node, exactly or with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnxpuma.graph.protobuf import element_type
from onnxpuma.ops.registry import operators

_WIDER = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
UNIT = 2.0**-18
_ROUNDS = (
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearMatMul",
)  # a step to either side is not rounded on shares
_OF_POSITIVE = ("Log", "Sqrt", "Pow", "ReduceLogSum")
_HALVES = {TensorProto.FLOAT16: 2.0**-11, TensorProto.BFLOAT16: 2.0**-8}


def node_in_doubles(
    node: onnx.NodeProto, inputs: Sequence[np.ndarray | None], opset: int
) -> Sequence[np.ndarray]:
    """The outputs of one node; reals are double precision whatever the node casts them to."""
    if any(a.name == "to" and a.i in _WIDER for a in node.attribute):
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        for a in twin.attribute:
            if a.name == "to":
                a.i = TensorProto.DOUBLE
        node = twin
    given = {n: v for n, v in zip(node.input, inputs, strict=True) if n}
    if node.op_type in _BY_HAND:
        return _BY_HAND[node.op_type](node, *inputs)
    kinds = {n: helper.make_tensor_type_proto(element_type(v.dtype), v.shape) for n, v in given.items()}
    graph = helper.make_graph(
        [node],
        "one",
        [onnx.ValueInfoProto(name=n, type=t) for n, t in kinds.items()],
        [onnx.ValueInfoProto(name=n) for n in node.output if n],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return list(ReferenceEvaluator(model).run(None, given))


def _quantised(node: onnx.NodeProto, x: Any, scale: Any, zero: Any = None, *_: Any) -> list[np.ndarray]:
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    low, high = _range(kind)
    point = np.zeros(()) if zero is None else zero.astype(np.float64)
    found = np.rint(x / _along(scale, x.ndim, axis)) + _along(point, x.ndim, axis)
    return [np.clip(found, low, high).astype(kind)]


def _dequantised(node: onnx.NodeProto, x: Any, scale: Any, zero: Any = None, *_: Any) -> list[np.ndarray]:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    point = np.zeros(()) if zero is None else zero.astype(np.float64)
    return [(x.astype(np.float64) - _along(point, x.ndim, axis)) * _along(scale, x.ndim, axis)]


def _dynamic(node: onnx.NodeProto, x: Any) -> list[np.ndarray]:
    low, high = float(x.min(initial=0.0)), float(x.max(initial=0.0))
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    made = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
    return [made, np.array(scale), np.array(zero, np.uint8)]


def _range(kind: np.dtype[Any]) -> tuple[float, float]:
    if kind.name in ("uint4", "int4"):
        return (0, 15) if kind.name == "uint4" else (-8, 7)
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def _along(values: Any, rank: int, axis: int) -> Any:
    if values.ndim != 1:
        return values
    wide = [1] * rank
    wide[axis % rank] = values.size
    return values.reshape(wide)


_BY_HAND: dict[str, Any] = {
    "QuantizeLinear": _quantised,
    "DequantizeLinear": _dequantised,
    "DynamicQuantizeLinear": _dynamic,
}


@cache
def _errors() -> dict[str, tuple[float, float]]:
    """Operator -> (absolute, of the result) error, as declared."""
    found = {}
    for name, operator in operators().items():
        if operator.moves or operator.error == "exact":
            found[name] = (0.0, 0.0)
        else:
            found[name] = (max(operator.tolerance, 0.0) if operator.tolerance > 1e-4 else 2 * UNIT, 1e-5)
    found.update({"Relu": (1e-3, 0.0), "Softmax": (1e-4, 1e-5), "Attention": (1e-4, 1e-4)})
    found.update({n: (1e-4, 2e-4) for n in found if n.endswith("Normalization")})
    return found


def declared(op: str) -> float:
    """The absolute error of an operator, as declared."""
    return _errors().get(op, (2 * UNIT, 0.0))[0] or UNIT


def run_doubles(
    model: onnx.ModelProto,
    feed: Mapping[str, np.ndarray],
    rng: np.random.Generator | None = None,
    factor: float = 1.0,
) -> dict[str, np.ndarray]:
    """Every value of a graph by name. rng: perturb every input and result by at most `factor` times its
    operator's declared error, as on shares."""
    opset = model.opset_import[0].version
    values: dict[str, Any] = {"": None}
    values.update({t.name: _wide(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer})
    for name, value in feed.items():
        values[name] = _off(_wide(value), UNIT / 2, 0.0, rng, factor)
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            given = [values[n] for n in node.input]
            if rng is not None and node.op_type in _OF_POSITIVE:
                given[0] = _still_positive(given)
            found = node_in_doubles(node, given, opset)
            for name, value in zip(node.output, found, strict=True):
                values[name] = np.asarray(value) if rng is None else _noised(node, value, rng, factor)
    del values[""]
    return values


def _still_positive(given: Sequence[Any]) -> np.ndarray:
    """Keep the operand of a root or a logarithm positive: noise must not turn its result into NaN."""
    whole = len(given) > 1 and np.all(given[1] == np.rint(given[1]))
    return np.asarray(given[0]) if whole else np.maximum(given[0], UNIT / 4)


def _wide(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _noised(node: onnx.NodeProto, value: Any, rng: np.random.Generator, factor: float) -> np.ndarray:
    value = np.asarray(value)
    if node.op_type in _ROUNDS and value.dtype.kind != "f":
        low, high = _range(value.dtype)
        moved = value.astype(np.int64) + rng.integers(-1, 2, value.shape)
        return np.clip(moved, low, high).astype(value.dtype)
    if value.dtype.kind != "f":
        return value
    absolute, relative = _errors().get(node.name.partition("_")[0], (2 * UNIT, 1e-5))
    for a in node.attribute:
        if a.name == "to" and a.i in _HALVES:
            relative = _HALVES[a.i]
    return _off(value, absolute, relative, rng, factor)


def _off(
    value: np.ndarray, absolute: float, relative: float, rng: np.random.Generator | None, factor: float
) -> np.ndarray:
    if rng is None or value.dtype.kind != "f" or not (absolute or relative):
        return value
    off = factor * rng.uniform(-1, 1, value.shape) * (absolute + relative * np.abs(value))
    return np.where(np.isfinite(value), np.rint((value + off) / UNIT) * UNIT, value)
