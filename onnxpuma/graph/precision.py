"""One kind of float: a model in half, bfloat16 or double precision is read as one in single precision.

A secure run has a single number format anyway, fixed point. Conversions between kinds of floats, which
exporters put around normalisations and softmaxes, then do nothing and disappear; conversions to the type of
another value name that type. Weights are converted one at a time when they are read; the file is not changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from onnxpuma.graph.by_rows import ByRows, open_rows, single
from onnxpuma.graph.shapes import infer
from onnxpuma.standard.operators import traits

_OTHERS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
# Attributes that name an element type.
_TYPE_ATTRIBUTES = ("to", "dtype", "softmax_precision", "stash_type", "output_dtype")


def to_single(model: ir.Model) -> int:
    """Make every float of `model` a float32, including its inputs and outputs; return how many values on
    which nodes compute changed.

    A weight that the file merely stores in another type, as all its readers make it float32 first, changes no
    result and is not counted.
    """
    changed = 0
    stored = dict.fromkeys(value for graph in model.graphs() for value in _only_stored(graph))
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype in _OTHERS:
                value.const_value = _single(value.const_value)
        values = [*graph.inputs, *graph.initializers.values(), *(o for n in graph for o in n.outputs)]
        for value in values:
            if value.dtype in _OTHERS:
                value.dtype = ir.DataType.FLOAT
                changed += value not in stored
        for node in graph:
            for attribute in list(node.attributes.values()):
                _convert(node, attribute)
    for value in stored:
        for use in list(value.uses()):
            if use.node.op_type == "Cast":
                _drop(use.node)
    return changed


def _drop(cast: ir.Node) -> None:
    """Take out a Cast from float32 to float32; behind it a weight that is only moved is one that is computed,
    and stored once more."""
    (output,), (source,) = cast.outputs, cast.inputs
    if cast.graph is not None and source is not None and not output.is_graph_output():
        output.replace_all_uses_with(source)
        cast.graph.remove(cast, safe=True)


def _only_stored(graph: ir.Graph) -> Iterator[ir.Value]:
    """The initializers that become float32 before anything computes on them, and their rows or elements in
    another order, which are taken before that."""
    for value in graph.initializers.values():
        if value.dtype in _OTHERS and not value.is_graph_input() and _is_widened(value):
            yield from _moved(value)


def _is_widened(value: ir.Value) -> bool:
    return not value.is_graph_output() and all(
        use.node.op_type == "Cast" and use.node.attributes["to"].value == ir.DataType.FLOAT
        if not _is_move(use.node, use.idx)
        else all(map(_is_widened, use.node.outputs))
        for use in value.uses()
    )


def _moved(value: ir.Value) -> Iterator[ir.Value]:
    yield value
    for use in value.uses():
        if _is_move(use.node, use.idx):
            for output in use.node.outputs:
                yield from _moved(output)


def _is_move(node: ir.Node, slot: int) -> bool:
    return slot == 0 and not node.domain and (traits(node.op_type).layout or node.op_type == "Gather")


def cast_like(model: ir.Model) -> None:
    """Write each CastLike of a known type as the equivalent Cast, with its own saturation and rounding."""
    found = [n for g in model.graphs() for n in g if n.op_type == "CastLike" and not n.domain]
    if found:
        infer(model)
    for node in found:
        kind = node.inputs[1].dtype if node.inputs[1] is not None else None
        if kind is not None:
            node.op_type = "Cast"
            node.attributes["to"] = ir.AttrInt64("to", int(kind))
            node.resize_inputs(1)


def _convert(node: ir.Node, attribute: ir.Attr) -> None:
    name, value = attribute.name, attribute.value
    if name in _TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT and value in _OTHERS:
        node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
    elif attribute.type == ir.AttributeType.TENSOR and value.dtype in _OTHERS:
        node.attributes[name] = ir.AttrTensor(name, _single(value))


def _single(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    made = ByRows(lambda: single(open_rows(tensor)), tuple(int(d) for d in tensor.shape.numpy()))
    made.name = tensor.name
    return made
