"""Nodes, types and arrays converted back into ONNX protobufs, for running and typing a single node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from onnxpuma.graph.model import UNDECLARED, Attribute, Graph, Node, ValueType

# Current onnxruntime does not read later IR versions, and a single node needs nothing that they add.
IR_VERSION = 10


def tensor_proto(array: np.ndarray, name: str = "") -> TensorProto:
    if array.dtype.kind in "SU":
        array = array.astype(object)
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def element_type(dtype: np.dtype[Any]) -> int:
    """ONNX's number for a numpy dtype (object and str arrays are strings)."""
    if dtype.kind in "OUS":
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def type_proto(value: ValueType) -> TypeProto:
    shape = None if value.shape is None else list(value.shape)
    return helper.make_tensor_type_proto(element_type(value.dtype), shape)


def attribute_proto(name: str, value: Attribute) -> AttributeProto:
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, tensor_proto(value))
    if isinstance(value, Graph):
        return helper.make_attribute(name, graph_proto(value))
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return helper.make_attribute(name, [tensor_proto(v) for v in value])
    if isinstance(value, list) and value and isinstance(value[0], Graph):
        return helper.make_attribute(name, [graph_proto(v) for v in value])
    if isinstance(value, list) and not value:
        return helper.make_attribute(name, [], attr_type=AttributeProto.INTS)
    return helper.make_attribute(name, value)


def node_proto(node: Node, inputs: Sequence[str] | None = None) -> NodeProto:
    """The node; `inputs` renames its inputs ("" = absent)."""
    names = [n or "" for n in node.inputs] if inputs is None else list(inputs)
    proto = NodeProto(
        op_type=node.op, domain=node.domain, name=node.name, input=names, output=list(node.outputs)
    )
    proto.attribute.extend(attribute_proto(k, v) for k, v in node.attributes.items())
    return proto


def graph_proto(graph: Graph, inputs: Mapping[str, ValueType] | None = None) -> GraphProto:
    """The graph with the values of its initializers; `inputs` replaces its declared inputs."""
    declared = graph.inputs if inputs is None else inputs
    return helper.make_graph(
        [node_proto(n) for n in graph.nodes],
        graph.name or "graph",
        [_value_info(n, t) for n, t in declared.items()],
        [_value_info(n, t) for n, t in graph.outputs.items()],
        [tensor_proto(i.numpy(), i.name) for i in graph.initializers.values()],
    )


def _value_info(name: str, kind: ValueType) -> ValueInfoProto:
    return ValueInfoProto(name=name) if kind == UNDECLARED else helper.make_value_info(name, type_proto(kind))


def model_proto(graph: GraphProto, domains: Mapping[str, int]) -> onnx.ModelProto:
    imports = [helper.make_opsetid(d, v) for d, v in sorted({"": 1, **domains}.items())]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
