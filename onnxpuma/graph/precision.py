"""One kind of float: a model in half, bfloat16 or double precision is read as one in single precision.

A secure run has a single number format anyway, fixed point. Conversions between kinds of floats, which
exporters put around normalisations and softmaxes, then do nothing and disappear; conversions to the type of
another value name that type. Weights are converted one at a time when they are read; the file is not changed.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxpuma.graph.by_rows import ByRows, open_rows, single
from onnxpuma.graph.shapes import infer

_OTHERS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
# Attributes that name an element type.
_TYPE_ATTRIBUTES = ("to", "dtype", "softmax_precision", "stash_type", "output_dtype")


def to_single(model: ir.Model) -> int:
    """Make every float of `model` a float32, including its inputs and outputs; return how many values
    changed."""
    changed = 0
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype in _OTHERS:
                value.const_value = _single(value.const_value)
        values = [*graph.inputs, *graph.initializers.values(), *(o for n in graph for o in n.outputs)]
        for value in values:
            if value.dtype in _OTHERS:
                value.dtype = ir.DataType.FLOAT
                changed += 1
        for node in graph:
            for attribute in list(node.attributes.values()):
                _convert(node, attribute)
    return changed


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
