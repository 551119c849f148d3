"""Operators that onnxruntime writes under the standard's domain are returned to onnxruntime's own.

Its optimiser and model builder put SimplifiedLayerNormalization, and LayerNormalization in models older than
that operator (opset 17), into the domain "", where no checker or converter knows them.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

DOMAIN = "com.microsoft"
_STANDARD_SINCE = {"SimplifiedLayerNormalization": 1 << 30, "LayerNormalization": 17, "Gelu": 20}


def _is_foreign(op: str, domain: str, opset: int) -> bool:
    return domain in ("", "ai.onnx") and opset < _STANDARD_SINCE.get(op, 0)


def claim_proto(model: onnx.ModelProto) -> None:
    """Change the domain of such nodes in place, and import it where it is not imported."""
    versions = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in model.opset_import}
    nodes = [n for g in proto_graphs(model.graph) for n in g.node]
    for node in nodes:
        if _is_foreign(node.op_type, node.domain, versions.get("", 1)):
            node.domain = DOMAIN
    if DOMAIN not in versions and any(n.domain == DOMAIN for n in nodes):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def claim(model: ir.Model) -> None:
    """`claim_proto` for a model in memory."""
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    nodes = [n for g in model.graphs() for n in g]
    for node in nodes:
        if _is_foreign(node.op_type, node.domain, opset):
            node.domain = DOMAIN
    if any(n.domain == DOMAIN for n in nodes):
        model.opset_imports.setdefault(DOMAIN, 1)


def proto_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from proto_graphs(inner)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches of an If, the body of a Loop or a Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
