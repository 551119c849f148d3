"""Operators without a kernel are replaced by what the standard says they are made of.

Many operators of the standard come with a function body: other operators that compute the same. Some bodies
depend on the node's attributes and on the types of its inputs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpuma.graph.canonicalise import simplify

_DOMAIN = "onnxpuma.expanded"
# Bodies contain operators with a body of their own; none nests deeper.
_MOST_ROUNDS = 6


def expand_functions(
    model: ir.Model, supported: Collection[str], nodes: Collection[str] | None = None
) -> dict[str, str]:
    """Replace the nodes whose operator is not in `supported` and has a body: node -> operator.

    `nodes` names the nodes meant, None means all; of what comes out of a body, all that is not supported is
    replaced too. An operator of another domain, or without a body at the model's opset, stays. Run after
    `canonicalise`; constants of the bodies become initializers, and the arithmetic is brought to its usual
    spelling. Cost: some milliseconds a node.
    """
    expanded: dict[str, str] = {}
    wanted = None if nodes is None else set(nodes)
    for number in range(_MOST_ROUNDS):
        found = _expand_once(model, supported, wanted, number)
        if not found:
            break
        expanded = expanded or found
        before = {id(n) for n in model.graph.all_nodes()} if wanted is not None else set()
        passes.InlinePass()(model)
        if wanted is not None:
            wanted = {str(n.name) for n in model.graph.all_nodes() if id(n) not in before}
    if expanded:
        simplify(model)
    return expanded


def _expand_once(
    model: ir.Model, supported: Collection[str], wanted: set[str] | None, number: int
) -> dict[str, str]:
    """Make calls of functions out of the nodes to replace."""
    found: dict[str, str] = {}
    opset = model.opset_imports[""]
    for node in list(model.graph.all_nodes()):
        if node.domain or node.op_type in supported:
            continue
        if wanted is not None and node.name not in wanted:
            continue
        body = _body(node, opset)
        if body is None:
            continue
        body.name, body.domain = f"{node.op_type}_{number}_{len(found)}", _DOMAIN
        function = ir.serde.deserialize_function(body)
        model.functions[function.identifier()] = function
        model.opset_imports[_DOMAIN] = 1
        found[str(node.name)] = node.op_type
        _fill_in_defaults(node, opset)
        node.domain, node.op_type = _DOMAIN, body.name
    return found


def _fill_in_defaults(node: ir.Node, opset: int) -> None:
    """A body refers to attributes by name: those left out get the value the schema gives them."""
    for name, attribute in onnx.defs.get_schema(node.op_type, opset).attributes.items():
        if name not in node.attributes and attribute.default_value.type:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)


def _body(node: ir.Node, opset: int) -> onnx.FunctionProto | None:
    schema: Any
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None
    plain = [v for v in schema.function_opset_versions if v <= opset]
    dependent = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if schema.has_function and plain:
        found = schema.get_function_with_opset_version(max(plain))
    elif schema.has_context_dependent_function and dependent:
        found = schema.get_context_dependent_function_with_opset_version(
            max(dependent), ir.to_proto(node).SerializeToString(), [_type(v) for v in node.inputs]
        )
    else:
        return None
    # Some versions of onnx give the message, some its bytes.
    body = found if isinstance(found, onnx.FunctionProto) else onnx.FunctionProto.FromString(found)
    return body if body.node and _fits(body, opset) and _yields(body, node) else None


def _yields(body: onnx.FunctionProto, node: ir.Node) -> bool:
    """Leave of the body's outputs those the node has; False when one that is read is not computed there."""
    made = {name for inner in body.node for name in inner.output} | set(body.input)
    names = list(body.output)[: len(node.outputs)]
    while names and names[-1] not in made:
        read = node.outputs[len(names) - 1]
        if read.uses() or read.is_graph_output():
            return False
        names.pop()
    del body.output[:]
    body.output.extend(names)
    return all(name in made for name in names)


def _type(value: ir.Value | None) -> bytes:
    kind = onnx.TypeProto()
    if value is not None and value.dtype is not None:
        kind.tensor_type.elem_type = int(value.dtype)
        if value.shape is not None:
            kind.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
            for d in value.shape:
                dim = kind.tensor_type.shape.dim.add()
                if isinstance(d, int):
                    dim.dim_value = d
    return kind.SerializeToString()


def _fits(body: onnx.FunctionProto, opset: int) -> bool:
    """True when the operators of the body, written for an older opset, take the same today; then it is
    declared to be of today."""
    for node in body.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset)
        if len(node.input) > schema.max_input or any(a.name not in schema.attributes for a in node.attribute):
            return False
    for entry in body.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    return True
