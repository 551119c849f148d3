"""Batch normalisations are folded into weights, which saves ten rounds and keeps the digits of small
variances.

With r = scale / sqrt(variance + epsilon): ((W x + b) - mean) r + bias = (r W) x + ((b - mean) r + bias) after
a convolution, elsewhere (x - mean) r + bias. The owner computes the new weights when they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.dequantise import lazy
from onnxpuma.graph.rules.folding import become, own, values_of
from onnxpuma.graph.rules.fused import Writer, put
from onnxpuma.graph.values import attribute, is_constant, rank, static_dim, used_once

TITLE = "batch normalisation folded into weights"
Read = Callable[[], np.ndarray]


def fold(model: ir.Model) -> dict[str, int]:
    """Fold every possible one, in place; return title -> how often."""
    found = [node for node in model.graph.all_nodes() if _for_use(node)]
    count = sum(_fold_one(model, node) or _written_out(model, node) for node in found)
    return {TITLE: count} if count else {}


def _for_use(node: ir.Node) -> bool:
    """A batch normalisation with the statistics of training, reading constants alone."""
    if node.op_type != "BatchNormalization" or node.domain or len(node.outputs) > 1:
        return False
    return not attribute(node.outputs[0], "training_mode") and all(is_constant(v) for v in node.inputs[1:])


def _channels(node: ir.Node) -> int | None:
    return static_dim(node.inputs[1], 0) if node.inputs[1] is not None else None


def _statistics(node: ir.Node) -> tuple[Read, Read, Read]:
    """scale / sqrt(variance + epsilon), mean and bias."""
    scale, shift, mean, variance = (values_of(v) for v in node.inputs[1:5] if v is not None)
    epsilon = np.float32(attribute(node.outputs[0], "epsilon"))
    return lambda: scale() / np.sqrt(variance() + epsilon), mean, shift


def _fold_one(model: ir.Model, node: ir.Node) -> bool:
    x = node.inputs[0]
    conv = None if x is None else x.producer()
    if x is None or conv is None or conv.domain or conv.op_type not in ("Conv", "ConvTranspose"):
        return False
    weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
    if not used_once(x) or weight is None or not own(weight) or (bias is not None and not is_constant(bias)):
        return False
    channels = _channels(node)
    if not channels:
        return False
    factor, mean, shift = _statistics(node)
    groups = int(attribute(x, "group")) if conv.op_type == "ConvTranspose" else 0
    become(weight, _scaled(values_of(weight), factor, groups))
    before: Read = (lambda: np.zeros(channels, np.float32)) if bias is None else values_of(bias)
    moved = lazy(lambda: (before() - mean()) * factor() + shift(), (channels,))
    conv.resize_inputs(3)
    conv.replace_input_with(2, Writer(model, {}).weight(moved, f"{weight.name}_shift"))
    _take_over(node, x)
    return True


def _written_out(model: ir.Model, node: ir.Node) -> bool:
    """(x - mean) r + bias, in place."""
    x, y, owner = node.inputs[0], node.outputs[0], node.graph
    channels = _channels(node)
    many = None if x is None else rank(x)
    if x is None or not channels or not many or many < 2 or owner is None or y.dtype != ir.DataType.FLOAT:
        return False
    factor, mean, shift = _statistics(node)
    shape, writer = (channels, *([1] * (many - 2))), Writer(model, {})

    def weight(read: Read, what: str) -> ir.Value:
        return writer.weight(lazy(read, shape), f"{y.name}_{what}")

    less = writer.Mul(writer.Sub(x, weight(mean, "mean")), weight(factor, "factor"))
    put(owner, node, writer, [writer.Add(less, weight(shift, "shift"))])
    return True


def _scaled(read: Read, factor: Read, groups: int) -> Read:
    """The weights times a factor for each channel of the result; groups: of a transposed convolution."""

    def scaled() -> np.ndarray:
        weights = read()
        if not groups:
            return weights * factor().reshape(-1, *([1] * (weights.ndim - 1)))
        apart = weights.reshape(groups, -1, *weights.shape[1:])
        by_channel = factor().reshape(groups, 1, -1, *([1] * (weights.ndim - 2)))
        return (apart * by_channel).reshape(weights.shape)

    return scaled


def _take_over(node: ir.Node, x: ir.Value) -> None:
    """Let the readers of the node's result read x instead, and remove the node."""
    y: Any = node.outputs[0]
    owner = node.graph
    assert owner is not None
    for reader, slot in list(y.uses()):
        reader.replace_input_with(slot, x)
    for slot, output in enumerate(owner.outputs):
        if output is y:
            owner.outputs[slot] = x
    owner.remove(node, safe=True)
