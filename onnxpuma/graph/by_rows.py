"""Constants read a few rows at a time: a weight of hundreds of megabytes is never in memory as a whole.

A row is the last axis of an array; all axes before it count as one. A rule that multiplies a weight changes
each row by itself, so that what it makes can be read by rows as well. Data in a file is read into fresh
memory, as pages of a mapping would count as this process's own until another needs them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.on_one_core import to_single
from onnxpuma.graph.values import numbers_of

Rows = Callable[[int, int], np.ndarray]
"""Reads rows start to stop of an array: shape (stop - start, columns)."""

BLOCK = 1 << 18  # elements read at a time: as single-precision numbers they fit a second-level cache


class ByRows(ir.LazyTensor):
    """A tensor that `opened` makes readable by rows, each time that it is asked for."""

    __slots__ = ("opened",)

    def __init__(
        self, opened: Callable[[], Rows], shape: tuple[int, ...], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> None:
        super().__init__(self._whole, dtype=dtype, shape=ir.Shape(shape))
        self.opened = opened

    def _whole(self) -> ir.TensorProtocol:
        shape = tuple(int(d) for d in self.shape.numpy())
        count, columns = rows_and_columns(shape)
        values = np.empty((count, columns), self.dtype.numpy())
        read, step = self.opened(), rows_in_block(columns)
        for start in range(0, count, step):
            values[start : start + step] = read(start, min(start + step, count))
        return ir.Tensor(values.reshape(shape), dtype=self.dtype)


def rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """How an array of this shape is read: its number of rows, and of elements in each."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def rows_in_block(columns: int) -> int:
    """How many rows make a block."""
    return max(1, BLOCK // max(columns, 1))


def open_rows(tensor: Any) -> Rows:
    """A function that reads a tensor by rows, in its own dtype; many threads may call it.

    A tensor that can only be computed as a whole is computed here and held by the function. Raises ValueError
    or OSError, here or when rows are read, as reading the tensor does.
    """
    if isinstance(tensor, ByRows):
        return tensor.opened()
    shape = tuple(int(d) for d in tensor.shape.numpy())
    if isinstance(tensor, ir.ExternalTensor) and tensor.dtype.bitwidth >= 8 and tensor.size:
        return _from_file(tensor, rows_and_columns(shape)[1])
    values = (
        numbers_of(tensor) if isinstance(tensor, ir.ExternalTensor) else np.asarray(tensor.numpy())
    ).reshape(rows_and_columns(shape))
    return lambda start, stop: values[start:stop]


def single(read: Rows) -> Rows:
    """The same rows in single precision."""
    return lambda start, stop: to_single(read(start, stop))


def times(tensor: Any, factor: Callable[[], Any], axis: int | None = None) -> ByRows:
    """A matrix, or an array of any shape, in single precision and multiplied: by one number, or along `axis`
    of the matrix by a vector. factor: reads it, each time that the tensor is opened."""

    def opened() -> Rows:
        read, factors = single(open_rows(tensor)), np.asarray(factor(), np.float32)
        if axis is not None:
            factors = factors.reshape(-1)

        def rows(start: int, stop: int) -> np.ndarray:
            values = read(start, stop)
            return values * (factors[start:stop, None] if axis == 0 else factors)

        return rows

    return ByRows(opened, tuple(int(d) for d in tensor.shape.numpy()))


def _from_file(tensor: ir.ExternalTensor, columns: int) -> Rows:
    dtype = np.dtype(tensor.dtype.numpy()).newbyteorder("<")
    tensor._check_path_containment()  # as its own reading does, should a link have come since it was loaded
    file = _File(tensor.path)
    offset, width = tensor.offset or 0, columns * dtype.itemsize

    def rows(start: int, stop: int) -> np.ndarray:
        data = file.read(offset + start * width, (stop - start) * width)
        return data.view(dtype).reshape(stop - start, columns)

    return rows


class _File:
    """A file open for reading from any thread, closed with its last reader."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, size: int) -> np.ndarray:
        out = np.empty(size, np.uint8)
        done = 0
        while done < size:
            got = os.preadv(self._descriptor, [out[done:].data], offset + done)
            if not got:
                raise OSError(f"{self._path} is shorter than when it was checked")
            done += got
        return out
