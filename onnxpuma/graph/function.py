"""A node expanded into the nodes that define it: the function body in its operator's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx
import onnx.inliner
import onnx_ir as ir
from onnx import FunctionProto, helper

from onnxpuma.graph.bodies import written
from onnxpuma.graph.model import Node, ValueType, to_graph
from onnxpuma.graph.protobuf import IR_VERSION, node_proto, type_proto
from onnxpuma.graph.rename import renamed


def function_body(node: Node, types: Sequence[ValueType | None], opset: int) -> list[Node]:
    """The nodes that define `node`, in order, with its own inputs and outputs; empty if there are none.

    Intermediate values are named after the node, so that they do not collide with others of the graph. Cost:
    about 1 ms.
    """
    if node.domain:
        return []
    try:
        schema = onnx.defs.get_schema(node.op, opset)
    except onnx.defs.SchemaError:
        return []
    inputs = [f"i{k}" if name else "" for k, name in enumerate(node.inputs)]
    proto = node_proto(node, inputs)
    del proto.output[:]
    proto.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.outputs))
    given = {attribute.name for attribute in proto.attribute}
    defaults = [a.default_value for name, a in schema.attributes.items() if name not in given]
    proto.attribute.extend(d for d in defaults if d.name)
    function = _function(schema, proto, types, opset)
    if function is None:
        return []
    declared = [
        helper.make_value_info(name, type_proto(kind))
        for name, kind in zip(inputs, types, strict=True)
        if name and kind is not None
    ]
    anything = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)  # nothing reads it
    results = [helper.make_value_info(name, anything) for name in proto.output if name]
    model = helper.make_model(
        helper.make_graph([proto], node.name, declared, results),
        opset_imports=list(function.opset_import),  # as the body requires, or it is not inlined
        functions=[function],
        ir_version=IR_VERSION,
    )
    inlined = onnx.inliner.inline_local_functions(model)
    outer: dict[str, str | None] = dict(zip(inputs, node.inputs, strict=True))
    outer.update(zip((f"o{k}" for k in range(len(node.outputs))), node.outputs, strict=True))

    made = to_graph(ir.serde.deserialize_model(inlined)).nodes
    inner = {n for part in made for n in (*part.inputs, *part.outputs, *_captured(part)) if n}
    names = {name: outer.get(name) or f"{node.name}/{name}" for name in inner}
    return [replace(renamed(part, names), name=f"{node.name}/{part.name}") for part in made]


def _captured(node: Node) -> list[str]:
    return [name for graph in node.subgraphs for name in graph.captured()]


def _function(
    schema: Any, proto: onnx.NodeProto, types: Sequence[ValueType | None], opset: int
) -> FunctionProto | None:
    """The body for this opset, or for the newest before it; otherwise the one in bodies.py."""
    versions = [v for v in schema.function_opset_versions if v <= opset]
    if versions:
        return _parsed(schema.get_function_with_opset_version(max(versions)))
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if not versions:
        return written(proto, types, opset)
    kinds = [onnx.TypeProto() if kind is None else type_proto(kind) for kind in types]
    body = schema.get_context_dependent_function_with_opset_version(
        max(versions), proto.SerializeToString(), [kind.SerializeToString() for kind in kinds]
    )
    return _parsed(body)


def _parsed(body: FunctionProto | bytes) -> FunctionProto:
    """Parse a body: some versions of onnx give the message, some its bytes."""
    return body if isinstance(body, FunctionProto) else FunctionProto.FromString(body)
