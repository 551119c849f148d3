"""Constant numbers beside a product with a weight are folded into the weight, where they cost nothing.

Such a number multiplies the input of the product, its result, or rows picked from a table.
The owner computes the new weights when they are read; they keep their names. A weight that other nodes read
too is left alone: it would have to be stored twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.by_rows import times
from onnxpuma.graph.marks import is_marked
from onnxpuma.graph.rules.dequantise import lazy
from onnxpuma.graph.values import (
    attribute,
    is_constant,
    number,
    numbers_of,
    rank,
    small_array,
    static_dim,
    used_once,
)
from onnxpuma.standard.operators import traits

FACTOR = "factor folded into weights"
_LAYOUT = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity")


@dataclass
class Linear:
    """A product with a weight: MatMul or Gemm, the constant, and which of its axes are summed over."""

    node: ir.Node
    weight: ir.Value
    axis: int

    @property
    def columns(self) -> int:
        return static_dim(self.weight, 1 - self.axis) or 0


def values_of(value: ir.Value) -> Callable[[], np.ndarray]:
    """A function that reads the constant's current values, even if it changes later; in single precision."""
    tensor = value.const_value
    assert tensor is not None

    def read() -> np.ndarray:
        return numbers_of(tensor).astype(np.float32, copy=False)

    return read


def become(value: ir.Value, read: Callable[[], np.ndarray]) -> None:
    """Make `read` compute the constant's values, whenever they are read."""
    shape = tuple(int(d) for d in value.const_value.shape.numpy())
    value.const_value = lazy(read, shape)


def own(value: ir.Value | None) -> bool:
    """True for a float constant that one node reads, once."""
    return value is not None and is_constant(value) and used_once(value) and value.dtype == ir.DataType.FLOAT


def linear_of(node: ir.Node) -> Linear | None:
    """The node as a product with a weight that it alone reads, which may be transposed."""
    if node.domain or node.op_type not in ("MatMul", "Gemm") or len(node.inputs) < 2:
        return None
    weight, axis = node.inputs[1], 0
    if node.op_type == "Gemm":
        y = node.outputs[0]
        if attribute(y, "transA") or attribute(y, "beta") != 1.0:
            return None
        axis = 1 if attribute(y, "transB") else 0
    if weight is not None and not is_constant(weight):
        transposed = weight.producer()
        if transposed is None or transposed.op_type != "Transpose" or not used_once(weight):
            return None
        weight, axis = transposed.inputs[0], 1 - axis
    if weight is None or not own(weight) or rank(weight) != 2:
        return None
    return Linear(node, weight, axis)


def readers_of(y: ir.Value, width: int, sums: list[tuple[ir.Node, int]] | None = None) -> list[Linear] | None:
    """The products with a weight that read `y`, directly or with its rows moved; None if other nodes read
    it, except sums that read it directly, which are noted in `sums`."""
    found: list[Linear] = []
    if y.is_graph_output():
        return None
    for use in y.uses():
        node, slot = use
        if traits(node.op_type, node.domain).of_shape:
            continue
        if sums is not None and node.op_type == "Add" and not node.domain:
            sums.append(use)
            continue
        if slot == 0 and _keeps_rows(node, width):
            inner = readers_of(node.outputs[0], width)
            if inner is None:
                return None
            found += inner
            continue
        linear = linear_of(node) if slot == 0 else None
        if linear is None:
            return None
        found.append(linear)
    return found or None


def _keeps_rows(node: ir.Node, width: int) -> bool:
    """True for a node that moves rows of the last axis, and changes none."""
    x, y = node.inputs[0], node.outputs[0]
    if node.domain or x is None or static_dim(y, -1) != width:
        return False
    if node.op_type in ("Reshape", "Identity"):
        return True
    axes = rank(x)
    if node.op_type == "Gather" and axes is not None:
        return attribute(y, "axis") not in (-1, axes - 1)
    if node.op_type == "Slice" and axes is not None and len(node.inputs) > 3:
        sliced = small_array(node.inputs[3])
        return sliced is not None and not any(a in (-1, axes - 1) for a in sliced.reshape(-1))
    return False


def fold(model: ir.Model) -> dict[str, int]:
    """Fold everything possible, in place; return title -> how often. Reads no weight of more than one
    number."""
    products = [node for node in model.graph.all_nodes() if node.op_type == "Mul" and not node.domain]
    count = sum(_fold_factor(model, node) for node in products)
    return {FACTOR: count} if count else {}


def _fold_factor(model: ir.Model, node: ir.Node) -> bool:
    x, factor = node.inputs[0], number(node.inputs[1])
    y = node.outputs[0]
    if x is None or is_constant(x) or factor is None:
        return False
    if not is_marked(node.inputs[1]) and not 1e-6 < abs(factor) < 1e6:
        return False
    if y.is_graph_output() or x.dtype != ir.DataType.FLOAT or rank(x) != rank(y):
        return False
    changed = _behind(x) or _before(y)
    if not changed:
        return False
    for value in changed:
        value.const_value = times(value.const_value, partial(np.float32, factor))
    for reader, slot in list(y.uses()):
        reader.replace_input_with(slot, x)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def _behind(x: ir.Value) -> list[ir.Value]:
    """The constants to multiply so that `x`, which a product or a table yields, is multiplied; empty if there
    are none."""
    while True:
        node = x.producer()
        if node is None or node.domain or not used_once(x):
            return []
        if node.op_type not in _LAYOUT:
            break
        source = node.inputs[0]
        if source is None:
            return []
        x = source
    if node.op_type == "Gather" and attribute(x, "axis") == 0 and rank(node.inputs[0]) == 2:
        return [v for v in node.inputs[:1] if v is not None and own(v)]
    constants: list[ir.Value] = []
    if node.op_type == "Add":
        product, bias = node.inputs[0], node.inputs[1]
        if bias is None or product is None or not own(bias) or not used_once(product):
            return []
        constants, node = [bias], product.producer()
    linear = None if node is None else linear_of(node)
    if linear is None:
        return []
    if linear.node.op_type == "Gemm" and len(linear.node.inputs) > 2:
        bias = linear.node.inputs[2]
        if bias is not None:
            if not own(bias):
                return []
            constants.append(bias)
    return [linear.weight, *constants]


def _before(y: ir.Value) -> list[ir.Value]:
    """The weights to multiply where every reader of `y` is a product with one; otherwise empty."""
    width = static_dim(y, -1)
    readers = None if width is None else readers_of(y, width)
    return [] if readers is None else [r.weight for r in readers]
