"""Quantised weights as floats, computed when they are read: (q - zero point) * scale, in every packing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.values import numbers_of


def array_of(value: ir.Value) -> np.ndarray:
    """The values of a constant; a memory-mapped file is closed again."""
    tensor = value.const_value
    if tensor is None:
        raise ValueError(f"{value.name} is not a constant")
    return numbers_of(tensor)


def lazy(read: Callable[[], np.ndarray], shape: tuple[int, ...]) -> ir.LazyTensor:
    """A float32 tensor of this shape that `read` computes each time it is asked for."""

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(read(), dtype=np.float32).reshape(shape))

    return ir.LazyTensor(tensor, dtype=ir.DataType.FLOAT, shape=ir.Shape(shape))


def along(factors: np.ndarray, shape: tuple[int, ...], axis: int, block: int = 0) -> np.ndarray:
    """Scales or zero points in a shape that broadcasts: one for all, one for each index of `axis`, or one a
    block."""
    if factors.size == 1:
        return factors.reshape(())
    if block:
        return np.repeat(factors, block, axis=axis)[
            tuple(slice(n) if a == axis % len(shape) else slice(None) for a, n in enumerate(shape))
        ]
    if factors.ndim != 1:
        return factors
    wide = [1] * len(shape)
    wide[axis] = -1
    return factors.reshape(wide)


def linear(
    quantised: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int, block: int = 0
) -> ir.LazyTensor:
    """The weight that DequantizeLinear computes from constants."""
    shape = tuple(int(d) for d in quantised.const_value.shape.numpy())

    def read() -> np.ndarray:
        q = array_of(quantised).astype(np.float32)
        if zero is not None:
            q -= along(array_of(zero).astype(np.float32), shape, axis, block)
        q *= along(array_of(scale).astype(np.float32), shape, axis, block)
        return q

    return lazy(read, shape)


def unpacked(data: np.ndarray, bits: int) -> np.ndarray:
    """Bytes to integers of `bits` bits, lowest first, along the last axis."""
    if bits == 8:
        return data
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(*data.shape[:-1], -1)


def in_blocks(
    packed: ir.Value, scale: ir.Value, zero: ir.Value | None, rows: int, columns: int, bits: int, block: int
) -> ir.LazyTensor:
    """The weight (columns, rows) of MatMulNBits, which packs it transposed, in blocks along its columns."""
    blocks = -(-columns // block)

    def read() -> np.ndarray:
        q = unpacked(array_of(packed).reshape(rows, blocks, -1), bits).astype(np.float32)
        if zero is None:
            q -= float(1 << (bits - 1))
        else:
            points = array_of(zero)
            if points.dtype == np.uint8:
                points = unpacked(points.reshape(rows, -1), bits)[:, :blocks]
            q -= points.astype(np.float32).reshape(rows, blocks, 1)
        q *= array_of(scale).astype(np.float32).reshape(rows, blocks, 1)
        return q.reshape(rows, -1)[:, :columns].T

    return lazy(read, (columns, rows))


def table_in_blocks(
    packed: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int, bits: int, block: int
) -> ir.LazyTensor:
    """The table of GatherBlockQuantized: a scale for each block along `axis`; a byte packs several
    numbers."""
    shape = [int(d) for d in packed.const_value.shape.numpy()]
    in_bytes = packed.dtype == ir.DataType.UINT8
    if in_bytes:
        shape[-1] *= 8 // bits

    def integers(value: ir.Value) -> np.ndarray:
        values = array_of(value)
        return (unpacked(values, bits) if in_bytes else values).astype(np.float32)

    def read() -> np.ndarray:
        scales = array_of(scale).astype(np.float32)
        if zero is None:
            points = np.full_like(scales, 1 << (bits - 1) if in_bytes else 0)
        else:
            points = integers(zero)[tuple(slice(n) for n in scales.shape)]
        q = integers(packed)
        q -= along(points, tuple(shape), axis, block)
        q *= along(scales, tuple(shape), axis, block)
        return q

    return lazy(read, tuple(shape))
