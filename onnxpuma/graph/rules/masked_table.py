"""A table of biases with masked places is split into the biases and the masked places.

Tables that are added to scores contain -inf, or a number that means as much. Inside a weight it would be no
number, or one so large that the other entries lose their digits. b becomes b' + m f: b' with zeros there, m
of zeros and ones, and the filler f, which is then recognised. Both tables are weights, even where m is
regular: the masked places stay as secret as their biases. A public table is left unchanged.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.marks import mark
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.rules.dequantise import lazy
from onnxpuma.graph.rules.fused import Writer
from onnxpuma.graph.rules.weight_only import Classify, marked
from onnxpuma.graph.values import attribute, small_array
from onnxpuma.standard.mask_values import LOWEST_FLOAT, MASKED
from onnxpuma.standard.operators import traits

TITLE = "masked places of a table"
# Operators between a table and the scores that it is added to.
_TOWARDS_SCORES = (
    *("Add", "Concat", "Expand", "Gather", "GatherElements", "GatherND", "Slice", "Sub", "Tile", "Where"),
)
_MOST_STEPS = 64


def split(model: ir.Model, secret: Classify) -> dict[str, int]:
    """Split every such table of at most 65536 numbers that is `secret`, in place; return title -> how often.

    This comes after weights are computed from others, which would join the two tables again.
    """
    made: dict[object, ir.Value] = {}
    values = [v for v in model.graph.initializers.values() if _reaches_scores(v)]  # others are not read
    found = {v: filler for v in values if (filler := _filler(v)) is not None}
    if not found:
        return {}
    weights = {*secret(to_graph(model)), *marked(model)}
    found = {value: filler for value, filler in found.items() if value.name in weights}
    numbers = []
    for value, filler in found.items():
        writer = Writer(model, made)
        kept = lazy(partial(_kept, value.const_value), _shape(value))
        places = lazy(partial(_places, value.const_value), _shape(value))
        tables = writer.weight(kept, f"{value.name}_kept"), writer.weight(places, f"{value.name}_masked")
        for table in tables:
            mark(table)
        for node, slot in list(value.uses()):
            numbers.append(_join(model, node, slot, *tables, filler))
    if not found:
        return {}
    weights = {*secret(to_graph(model))}
    for number in numbers:  # a secret filler is in the words: no further out than necessary
        if number.name in weights:
            number.const_value = ir.tensor(np.float32(MASKED))
    return {TITLE: len(found)}


def _shape(value: ir.Value) -> tuple[int, ...]:
    return tuple(int(d) for d in value.const_value.shape.numpy())


def _filler(value: ir.Value) -> float | None:
    """The one number far down that occurs in the table beside others; None where there is no such number."""
    values = small_array(value)
    if values is None or values.dtype != np.float32 or values.size < 2:
        return None
    low = values <= MASKED
    if not low.any() or low.all():
        return None
    fillers = set(values[low].tolist())
    if len(fillers) > 1 and not fillers <= {-np.inf, LOWEST_FLOAT}:
        return None
    return max(float(min(fillers)), LOWEST_FLOAT)


def _kept(tensor: ir.TensorProtocol) -> np.ndarray:
    values = np.array(tensor.numpy(), np.float32)
    return np.where(values <= MASKED, np.float32(0), values)


def _places(tensor: ir.TensorProtocol) -> np.ndarray:
    return (np.asarray(tensor.numpy()) <= MASKED).astype(np.float32)


def _reaches_scores(value: ir.Value) -> bool:
    todo, seen = [value], {value}
    while todo and len(seen) < _MOST_STEPS:
        for node, slot in todo.pop().uses():
            if node.domain:
                continue
            if traits(node.op_type).scores == slot:
                return True
            if traits(node.op_type).layout or node.op_type in _TOWARDS_SCORES:
                todo += [o for o in node.outputs if o not in seen]
                seen.update(node.outputs)
    return False


def _join(
    model: ir.Model, node: ir.Node, slot: int, kept: ir.Value, places: ir.Value, filler: float
) -> ir.Value:
    """Make `node` read the two tables: both looked up where it looks up, their sum elsewhere. Returns the
    filler."""
    writer = Writer(model, {})
    number = writer.weight(ir.tensor(np.float32(filler)), f"{kept.name}_filler")
    if node.op_type == "Gather" and slot == 0:
        axis = attribute(node.outputs[0], "axis")
        first, second = (writer.Gather(table, node.inputs[1], axis=axis) for table in (kept, places))
        total = writer.Add(first, writer.Mul(second, number))
    else:
        total = writer.Add(kept, writer.Mul(places, number))
    for index, new in enumerate(writer.nodes):
        new.name = f"{node.name}/{new.op_type}_masked_{index}"
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, writer.nodes)
    if node.op_type == "Gather" and slot == 0:
        ir.convenience.replace_all_uses_with(node.outputs[0], total)
        for place, output in enumerate(graph.outputs):
            if output is node.outputs[0]:
                graph.outputs[place] = total
        graph.remove(node, safe=True)
    else:
        node.replace_input_with(slot, total)
    return number
