"""What passes and rules ask of a value of an onnx_ir graph: its rank, its number, who makes and reads it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.marks import is_given, is_marked
from onnxpuma.standard.signature import default_of

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_LARGEST_SMALL = 65536

# Threads that measure weights read constants that several of them share, a folded scale or a tensor with two
# names: while one holds its mapped file, another must neither map nor close it. A constant may follow from
# another one: a thread may enter twice.
_reading = threading.RLock()


def numbers_of(tensor: ir.TensorProtocol) -> np.ndarray:
    """A copy of the numbers; a memory-mapped file is closed again. Many threads may call it."""
    with _reading:
        values = np.array(tensor.numpy())
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()
    return values


def is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def is_float(value: ir.Value) -> bool:
    return value.dtype in FLOATS


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of one element; None for anything else, and for a weight."""
    return None if is_marked(value) else number(value)


def number(value: ir.Value | None) -> float | None:
    """`scalar`, also for a weight: only for rules that put it into another weight."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    if value.dtype == ir.DataType.STRING:
        return None
    return float(np.asarray(value.const_value.numpy()).reshape(()))


def small_array(value: ir.Value | None) -> np.ndarray | None:
    """The values of a constant of at most 65536 elements, else None: larger weights are never read here."""
    if value is None or value.const_value is None or value.const_value.size > _LARGEST_SMALL:
        return None
    return np.asarray(value.const_value.numpy())


def are_ones(value: ir.Value | None) -> bool:
    """True for ones that a rule made; ones that a model brings are a weight like others."""
    if is_given(value):
        return False
    values = small_array(value)
    return values is not None and bool(np.all(values == 1))


def rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def static_dim(value: ir.Value, axis: int) -> int | None:
    """The dimension of `value` at `axis` (negative counts from the end) where it is a known number."""
    if value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else None


def keeps_shape(x: ir.Value, constant: ir.Value) -> bool:
    """True when combining `x` with the one-element `constant` cannot raise the rank of `x`."""
    x_rank, constant_rank = rank(x), rank(constant)
    return constant_rank == 0 or (
        x_rank is not None and constant_rank is not None and constant_rank <= x_rank
    )


def used_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that computes a value, if it is one of these operators of the standard."""
    node = None if value is None else value.producer()
    return node if node is not None and not node.domain and node.op_type in operators else None


def attribute(value: ir.Value, name: str) -> Any:
    """An attribute of the node that produces `value`, or the default of its schema."""
    node = value.producer()
    assert node is not None
    given, default = node.attributes.get(name), default_of(node.op_type, name)
    return default if given is None else given.value


def is_trailing_axis(axes: ir.Value | None, x: ir.Value) -> bool:
    """True when the constant `axes` names the last axis of `x`, and no other."""
    axis = scalar(axes)
    return axis is not None and (axis == -1 or axis + 1 == rank(x))
