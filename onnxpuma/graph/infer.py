"""The concrete types of a node's outputs, from the types (and known values) of its inputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from onnx import NodeProto, TypeProto, helper

from onnxpuma.errors import ModelError, UnsupportedModelError
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.graph.protobuf import node_proto, tensor_proto, type_proto
from onnxpuma.graph.sampling import DOMAIN, SAMPLE

# Shapes, axes, slices, tile counts: values that an output's shape can depend on. Larger values never matter.
_LARGEST_SHAPE_VALUE = 4096


_protos: WeakKeyDictionary[Node, NodeProto] = WeakKeyDictionary()
_MOST_KEPT = 4096
_types: OrderedDict[tuple[Hashable, ...], list[ValueType]] = OrderedDict()
_UNWANTED = ValueType(np.dtype(np.float32), (0,))


def infer_node(
    node: Node,
    input_types: Sequence[ValueType | None],
    input_values: Sequence[np.ndarray | None],
    opset: int,
) -> list[ValueType]:
    """Types of `node.outputs`, every dimension an int (an unwanted output, "", gets shape (0,)).

    `input_types[i]` is None where the input is absent; `input_values[i]` is the value where it is public and
    known (shapes, axes, indices), else None. Cost: about 0.1 ms; less if an equal node came before.

    Raises ModelError when the shape cannot be inferred or the inputs do not fit the operator, and
    UnsupportedModelError for an operator ONNX does not know.
    """
    key = _key(node, input_types, input_values, opset)
    if key is None:
        return _inferred(node, input_types, input_values, opset)
    known = _types.get(key)
    if known is None:
        known = _types[key] = _inferred(node, input_types, input_values, opset)
        if len(_types) > _MOST_KEPT:
            _types.popitem(last=False)
    return list(known)


def _key(
    node: Node,
    input_types: Sequence[ValueType | None],
    input_values: Sequence[np.ndarray | None],
    opset: int,
) -> tuple[Hashable, ...] | None:
    """A key of everything that the types depend on, the same for nodes that differ only in name: a model's
    layers are alike."""
    if node.subgraphs or any(v is not None and v.dtype == object for v in input_values):
        return None
    values = tuple(
        None if v is None or v.size > _LARGEST_SHAPE_VALUE else (v.dtype.str, v.shape, v.tobytes())
        for v in input_values
    )
    types = tuple(None if t is None else (t.dtype.str, t.shape) for t in input_types)
    ends = tuple(map(bool, node.inputs)), tuple(map(bool, node.outputs))
    return (node.domain, node.op, node.version, opset, node.attribute_key, ends, types, values)


def _inferred(
    node: Node,
    input_types: Sequence[ValueType | None],
    input_values: Sequence[np.ndarray | None],
    opset: int,
) -> list[ValueType]:
    if (node.domain, node.op) == (DOMAIN, SAMPLE):
        return [_drawn(node, input_types[0])]
    proto = _protos.get(node)
    if proto is None:
        proto = _protos[node] = node_proto(node, [f"i{k}" if n else "" for k, n in enumerate(node.inputs)])
        for k, output in enumerate(node.outputs):
            proto.output[k] = f"o{k}" if output else ""
    try:
        schema = onnx.defs.get_schema(node.op, opset if not node.domain else node.version, node.domain)
    except onnx.defs.SchemaError:
        operator = f"{node.domain}::{node.op}" if node.domain else node.op
        raise UnsupportedModelError(
            f"node '{node.name}': ONNX opset {opset} has no operator {operator}",
            "export the model with standard operators only",
        ) from None
    types: dict[str, TypeProto] = {}
    data = {}
    for k, (name, kind) in enumerate(zip(node.inputs, input_types, strict=False)):
        if not name:
            continue
        if kind is None:
            raise ModelError(f"node '{node.name}': the type of its input '{name}' is not known")
        types[f"i{k}"] = type_proto(kind)
        value = input_values[k] if k < len(input_values) else None
        if value is not None and value.size <= _LARGEST_SHAPE_VALUE:
            data[f"i{k}"] = tensor_proto(value, f"i{k}")
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=[helper.make_opsetid("", opset)]
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as e:
        raise ModelError(f"node '{node.name}' ({node.op}) does not accept its inputs: {e}") from e
    found = [
        _concrete(node, output, inferred.get(f"o{k}")) if output else _UNWANTED
        for k, output in enumerate(node.outputs)
    ]
    reason = misfit(node, input_types, found)
    if reason is not None:
        raise ModelError(f"node '{node.name}' ({node.op}): {reason}", "give it other sizes")
    return found


def _drawn(node: Node, scores: ValueType | None) -> ValueType:
    """A place in each row."""
    if scores is None or scores.shape is None:
        raise ModelError(f"node '{node.name}': the type of its scores is not known")
    return ValueType(np.dtype(np.int64), scores.shape[:-1])


def misfit(node: Node, given: Sequence[ValueType | None], made: Sequence[ValueType]) -> str | None:
    """Why a node cannot produce what onnx infers, which does not check everything."""
    first = given[0] if given else None
    if first is None or first.shape is None or made[0].shape is None or node.domain:
        return None
    before, after = _sizes(first), _sizes(made[0])
    beyond = node.traits.window and min(after, default=1) < 1 <= min(before, default=1)
    if beyond or (node.op == "Conv" and _wider(node, first, given[1])):
        return f"an input of {_shown(before)} is too small for its window"
    if any(size < 0 for kind in made for size in _sizes(kind)):
        return f"an input of {_shown(before)} is too small for it"
    if node.op == "Reshape" and np.prod(before, dtype=object) != np.prod(after, dtype=object):
        return (
            f"it turns {_shown(before)} into {_shown(after)}; a shape in the file was exported"
            " for one batch or one length: use that one, or export the model with axes that vary"
        )
    return None


def _wider(node: Node, x: ValueType, kernel: ValueType | None) -> bool:
    """Whether a window is wider than its input: onnx counts a partial step as a whole one."""
    sizes, spans = _sizes(x)[2:], [] if kernel is None else _sizes(kernel)[2:]
    rank = len(x.shape or ()) - 2
    if not rank == len(sizes) == len(spans) or "SAME" in node.attribute("auto_pad"):
        return False
    pads = np.array(node.attribute("pads") or [0] * 2 * rank).reshape(2, rank).sum(axis=0)
    dilations = np.array(node.attribute("dilations") or [1] * rank)
    return bool(np.any(np.array(sizes) + pads < (np.array(spans) - 1) * dilations + 1))


def _sizes(kind: ValueType) -> list[int]:
    return [d for d in kind.shape or () if isinstance(d, int)]


def _shown(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _concrete(node: Node, name: str, proto: TypeProto | None) -> ValueType:
    kind = None if proto is None else proto.tensor_type
    if kind is None or not kind.elem_type or not kind.HasField("shape"):
        raise ModelError(
            f"node '{node.name}' ({node.op}): the shape of its output '{name}' cannot be inferred",
            "its shape may depend on secret values; export the model with a fixed shape there",
        )
    shape: list[int] = []
    for dim in kind.shape.dim:
        if not dim.HasField("dim_value"):
            raise ModelError(
                f"node '{node.name}' ({node.op}): dimension {len(shape)} of '{name}' cannot be inferred",
                "its shape may depend on secret values; export the model with a fixed shape there",
            )
        shape.append(dim.dim_value)
    return ValueType(np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)), tuple(shape))
