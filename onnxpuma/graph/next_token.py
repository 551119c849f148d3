"""The derived outputs `next_token` and `next_tokens`: the ids of the largest logits, and nothing else.

A client asks a generating model for one id after the other: `next_token` follows the last position. Where it
guesses the next few ids, one run with `next_tokens`, which has the id after every position, tells how many
guesses are right. With these outputs the servers need not give anybody the logits, a few thousand rows of
which suffice to copy a model's head [Carlini24]. The model never generates the ids in the derived input
`suppressed_ids`: an early end of the text, an unwanted language.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rows import lift_rows, needed
from onnxpuma.graph.rules.fused import Writer
from onnxpuma.graph.sampling import DOMAIN, default_inputs, sampled_outputs
from onnxpuma.graph.values import is_constant, rank, static_dim

NEXT_TOKEN = "next_token"  # derived output: the id of the largest logit at the last position
NEXT_TOKENS = "next_tokens"  # derived output: the ids of the largest logits at all positions
SUPPRESSED = "suppressed_ids"  # derived public input: ids that must not be generated
LOGITS = "logits"
SUPPRESSION = 2.0**13
"""Subtracted from a suppressed logit. It suffices for logits of magnitude up to 2^12."""
_PREFIX = f"{NEXT_TOKEN}/"
_SHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")
_STATE = ("past_key_values", "encoder_hidden_states")


def vocabulary(model: ir.Model) -> int | None:
    """The number of ids that `model` generates from; None if it does not generate.

    It generates if its output `logits` is (batch, sequence, vocabulary), and it takes a decoder's state, or
    ids of a table with as many rows.
    """
    logits = next((v for v in model.graph.outputs if v.name == LOGITS), None)
    if logits is None or logits.dtype != ir.DataType.FLOAT or rank(logits) != 3:
        return None
    size = static_dim(logits, -1)
    names = [str(v.name) for v in (*model.graph.inputs, *model.graph.outputs)]
    if size is None or not {NEXT_TOKEN, NEXT_TOKENS, SUPPRESSED}.isdisjoint(names):
        return None
    state = any(name.startswith(_STATE) for name in names)
    return size if state or size in _tables(model.graph) else None


def _tables(graph: ir.Graph) -> Iterable[int | None]:
    """The number of rows of each table that an input of ids indexes."""
    for node in graph:
        gathers = node.op_type == "Gather" and not node.domain and is_constant(node.inputs[0])
        if gathers and _is_input(node.inputs[1]):
            yield static_dim(node.inputs[0], 0)


def _is_input(ids: ir.Value | None) -> bool:
    """Whether these ids are an input of the graph, perhaps reshaped."""
    while ids is not None and (node := ids.producer()) is not None and node.op_type in _SHAPING:
        ids = node.inputs[0]
    return ids is not None and ids.is_graph_input()


def add_next_token(model: ir.Model) -> int | None:
    """Add the outputs and inputs of this file and of sampling.py to a canonical model in place, if it
    generates; return its `vocabulary`.

    For `next_token` only the last position's row goes through the head and any nodes that serve the logits
    alone; these nodes are duplicated, as the logits stay an output. `next_tokens` follows from those logits.
    No weight is duplicated.
    """
    size = vocabulary(model)
    if size is None:
        return None
    graph = model.graph
    logits = next(v for v in graph.outputs if v.name == LOGITS)
    copies = _copied(graph, logits)
    w = Writer(model, {})
    ids = ir.Value(name=SUPPRESSED, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["suppressed"]))
    row = w.Gather(copies.get(logits, logits), _vector(w, "last", [-1]), axis=1)  # (batch, 1, vocabulary)
    suppression = _suppression(w, ids, size)
    found = w.ArgMax(w.Add(row, suppression), axis=-1, keepdims=0)
    all_found = w.ArgMax(w.Add(logits, suppression), axis=-1, keepdims=0)
    drawn, read = sampled_outputs(w, row, suppression, size)
    for number, node in enumerate(w.nodes):
        node.name = f"{_PREFIX}{node.op_type}_{number}"
        for output in node.outputs:
            output.name = node.name
        graph.append(node)
    batch, length = (None, None) if logits.shape is None else logits.shape[:2]
    row.type, row.shape = logits.type, ir.Shape([batch, 1, size])
    ends = [(NEXT_TOKEN, found, 1), (NEXT_TOKENS, all_found, length)]
    for name, output, rows in (*ends, *((name, output, 1) for name, output in drawn.items())):
        output.name, output.type = name, ir.TensorType(ir.DataType.INT64)
        output.shape = ir.Shape([batch, rows])
        graph.outputs.append(output)
    graph.inputs.extend([ids, *read])
    model.opset_imports.setdefault(DOMAIN, 1)
    lift_rows(model)
    _merge(graph, copies)
    _drop_unused(graph)
    graph.sort()
    return size


def remove_inputs(model: ir.Model, size: int) -> None:
    """Remove the derived inputs that nothing reads, where some derived outputs are not wanted."""
    inputs, derived = model.graph.inputs, {SUPPRESSED, *default_inputs(size)}
    inputs[:] = [value for value in inputs if value.name not in derived or value.uses()]


def _copied(graph: ir.Graph, logits: ir.Value) -> dict[ir.Value, ir.Value]:
    """Copies of the nodes that serve the logits alone, from which the row is selected: value -> copy."""
    others = needed(graph, [v for v in graph.outputs if v is not logits])
    alone = needed(graph, [logits]) - others
    copies: dict[ir.Value, ir.Value] = {}
    for node in [n for n in graph if n in alone]:
        if node.outputs[0].dtype != ir.DataType.FLOAT or any(
            a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
        ):
            continue
        inputs = [v if v is None else copies.get(v, v) for v in node.inputs]
        attributes = {name: a.value for name, a in node.attributes.items()}
        twin = ir.node(
            node.op_type, inputs, attributes, domain=node.domain, num_outputs=len(node.outputs),
            name=f"{_PREFIX}{node.name}",
        )  # fmt: skip
        for old, new in zip(node.outputs, twin.outputs, strict=True):
            new.name, new.type, new.shape = f"{_PREFIX}{old.name}", old.type, old.shape
            copies[old] = new
        graph.append(twin)
    return copies


def _merge(graph: ir.Graph, copies: dict[ir.Value, ir.Value]) -> None:
    """Drop copies that stayed equal to their originals."""
    for old, new in copies.items():
        source, twin = old.producer(), new.producer()
        if source is None or twin is None or twin.graph is not graph:
            continue
        if all(a is b for a, b in zip(source.inputs, twin.inputs, strict=True)):
            ir.convenience.replace_all_uses_with(new, old)


def _drop_unused(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)


def _suppression(w: Writer, ids: ir.Value, size: int) -> ir.Value:
    """(vocabulary,): minus SUPPRESSION at these ids, zero elsewhere."""
    zeros = w.ConstantOfShape(_vector(w, "vocabulary", [size]), value=ir.tensor(np.zeros(1, np.float32)))
    far = w.ConstantOfShape(w.Shape(ids), value=ir.tensor(np.array([-SUPPRESSION], np.float32)))
    scattered: ir.Value = w.ScatterElements(zeros, ids, far, axis=0)
    return scattered


def _vector(w: Writer, name: str, numbers: list[int]) -> ir.Value:
    return w.weight(ir.tensor(np.array(numbers, np.int64), name=f"{_PREFIX}{name}"), f"{_PREFIX}{name}")
