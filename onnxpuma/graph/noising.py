"""Noise on outputs: the node that adds it, and the proof that no way around it leads to a client.

The node stands between an output and everything that reads it, under the output's name. So an output that
another is computed from (the scores behind a label) is noisy for that one too, and both have the same noise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Graph, Node
from onnxpuma.standard.signature import declare

DOMAIN, NOISE = "onnxpuma.noise", "Noise"
EXACT, LABEL = ".exact", ".label"  # what follows an output's name: without noise; the place of the largest
_KINDS = "fi"

declare(DOMAIN, NOISE, kind=None, scale=None, low=None, high=None)


@dataclass(frozen=True)
class NoiseNode:
    """The attributes of a node: the noise that each server draws, and the range into which the value is
    moved first, all in units of the value's grid."""

    kind: str
    scale: int
    low: int | None = None
    high: int | None = None


def is_noise(node: Node) -> bool:
    return (node.domain, node.op) == (DOMAIN, NOISE)


def noise_nodes(graph: Graph) -> dict[str, NoiseNode]:
    """The nodes that add noise: the name of the noisy value -> attributes."""
    return {
        node.outputs[0]: NoiseNode(*(node.attribute(name) for name in ("kind", "scale", "low", "high")))
        for node in graph.nodes
        if is_noise(node)
    }


def row_size(value: ir.Value) -> tuple[np.dtype, int]:
    """The element type of an output, and the elements of one answer: all axes but the first.

    Raises ConfigError for an output that can have no noise.
    """
    kind = None if value.dtype is None else np.dtype(value.dtype.numpy())
    if kind is None or kind.kind not in _KINDS:
        raise ConfigError(
            f"output '{value.name}' has no numbers to add noise to", "name the scores or the counts"
        )
    sizes = None if value.shape is None else list(value.shape)[1:]
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        raise ConfigError(
            f"an answer of output '{value.name}' has no fixed size",
            "noise needs one: every axis but the first, which counts answers, must have a fixed length",
        )
    return kind, int(np.prod([int(size) for size in sizes], dtype=np.int64))


def add_noise(model: ir.Model, wanted: Mapping[str, NoiseNode], label: bool) -> None:
    """Put a node behind each of these outputs, in place. label: the output gives way to NAME.label, the
    index of the largest noisy element along the last axis.

    Raises ConfigError for an output that is an input or a constant.
    """
    graph = model.graph
    outputs = {str(value.name): value for value in graph.outputs}
    for name, attributes in wanted.items():
        exact = outputs[name]
        source = exact.producer()
        if source is None:
            raise ConfigError(f"output '{name}' is an input or a constant", "noise would hide nothing")
        given = {k: v for k, v in vars(attributes).items() if v is not None}
        shown = ir.Value(name=name, type=exact.type, shape=exact.shape)
        node = ir.node(NOISE, [exact], given, domain=DOMAIN, outputs=[shown], name=f"noise on {name}")
        ir.convenience.replace_all_uses_with(exact, shown, replace_graph_outputs=True)
        node.replace_input_with(0, exact)
        exact.name = name + EXACT
        graph.insert_after(source, node)
        if label:
            _show_label(graph, shown, node)
    model.opset_imports[DOMAIN] = 1


def _show_label(graph: ir.Graph, scores: ir.Value, after: ir.Node) -> None:
    shape = None if scores.shape is None else ir.Shape(list(scores.shape)[:-1])
    place = ir.Value(name=f"{scores.name}{LABEL}", type=ir.TensorType(ir.DataType.INT64), shape=shape)
    attributes = {"axis": -1, "keepdims": 0}
    node = ir.node("ArgMax", [scores], attributes, outputs=[place], name=f"label of {scores.name}")
    graph.insert_after(after, node)
    graph.outputs[:] = [place if value is scores else value for value in graph.outputs]


def unprotected(graph: Graph, secret: Collection[str]) -> tuple[list[str], list[str]]:
    """The outputs that depend on a secret weight other than through noise; and the noisy values that depend
    on none, whose noise protects nothing."""
    told = set(secret)
    idle = []
    for node in graph.nodes:
        read = {name for name in node.inputs if name}.union(*(g.captured() for g in node.subgraphs))
        weights = any(name in secret for g in node.subgraphs for name in g.initializers)
        if is_noise(node):
            idle += [] if read & told else list(node.outputs)
        elif read & told or weights:
            told.update(name for name in node.outputs if name)
    return [name for name in graph.outputs if name in told], idle


def _schema() -> onnx.defs.OpSchema:
    """What onnx needs in order to infer types behind a node."""
    new = onnx.defs.OpSchema
    kinds = [new.AttrType.STRING, new.AttrType.INT, new.AttrType.INT, new.AttrType.INT]
    made = new(
        NOISE,
        DOMAIN,
        1,
        "x and noise that each server draws for itself",
        inputs=[new.FormalParameter("x", "T")],
        outputs=[new.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(int64)", "tensor(int32)"], "scores or counts")],
        attributes=[
            new.Attribute(name, kind, "", required=name in ("kind", "scale"))
            for name, kind in zip(("kind", "scale", "low", "high"), kinds, strict=True)
        ],
    )
    made.set_type_and_shape_inference_function(_infer)
    return made


def _infer(each: onnx.shape_inference.InferenceContext) -> None:
    each.set_output_type(0, each.get_input_type(0))


if not onnx.defs.has(NOISE, 1, DOMAIN):
    onnx.defs.register_schema(_schema())
