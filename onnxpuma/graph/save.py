"""The skeleton of a model: its graph as an ONNX file without the values of its secret weights.

The computing servers read it. Secret weights become inputs of the graph (any ONNX viewer shows them, and
onnxruntime runs the file when fed with them); public constants keep their values. The model's metadata lists
all initializers in order, so that owner and servers see the same `Graph`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

import onnx_ir as ir
from onnx import helper
from onnx_ir.external_data import set_base_dir

from onnxpuma.errors import ModelError
from onnxpuma.graph.external import refuse_external
from onnxpuma.graph.load import check, parse
from onnxpuma.graph.model import Graph, Initializer, ValueType, to_graph
from onnxpuma.graph.protobuf import graph_proto

_KEY = "onnxpuma.initializers"


def skeleton_bytes(graph: Graph, secret: Collection[str]) -> bytes:
    """`graph` as ONNX without the values of the initializers named in `secret`; the same bytes for the same
    graph."""
    weights = {n: i for n, i in graph.initializers.items() if n in secret}
    inputs = {**graph.inputs, **{n: ValueType(i.dtype, i.shape) for n, i in weights.items()}}
    public = {n: i for n, i in graph.initializers.items() if n not in secret}
    shown = Graph(graph.name, inputs, graph.outputs, graph.nodes, public, graph.opset, graph.domains)
    imports = [helper.make_opsetid(d, v) for d, v in sorted((graph.domains or {"": graph.opset}).items())]
    version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    model = helper.make_model(
        graph_proto(shown), opset_imports=imports, ir_version=version, producer_name="onnxpuma"
    )
    order = [[n, "secret" if n in weights else "public"] for n in graph.initializers]
    helper.set_model_props(model, {_KEY: json.dumps(order)})
    return model.SerializeToString(deterministic=True)


def load_skeleton(source: str | os.PathLike[str] | bytes) -> Graph:
    """The graph of a skeleton (a path, or its bytes): secret weights have a dtype and a shape, but no values.

    Raises ModelError when it is damaged, not a skeleton, or refers to files outside itself.
    """
    name = "the skeleton" if isinstance(source, bytes) else Path(source).name
    proto = parse(source if isinstance(source, bytes) else Path(source).absolute(), name)
    refuse_external(proto, name)  # before anything that reads it looks for the data
    check(proto, name)
    order = next((p.value for p in proto.metadata_props if p.key == _KEY), None)
    if order is None:
        raise ModelError(f"{name} is not the skeleton of a model", "give the file that onnxpuma wrote")
    model = ir.serde.deserialize_model(proto)
    set_base_dir(model.graph, os.devnull)  # a folder in which nothing can be
    graph = to_graph(model)
    inputs = dict(graph.inputs)
    initializers: dict[str, Initializer] = {}
    try:
        for entry, kind in json.loads(order):
            if kind == "public":
                initializers[entry] = graph.initializers[entry]
            else:
                declared = inputs.pop(entry)
                shape = tuple(d for d in declared.shape or () if isinstance(d, int))
                initializers[entry] = Initializer(entry, declared.dtype, shape)
    except (ValueError, TypeError, KeyError) as e:
        raise ModelError(f"{name} lists missing weights: {e}", "create it again with onnxpuma") from e
    return Graph(graph.name, inputs, graph.outputs, graph.nodes, initializers, graph.opset, graph.domains)
