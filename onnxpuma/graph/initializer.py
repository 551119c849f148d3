"""A named constant of a model, read on demand: as a whole, or by rows where it is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.errors import ModelError
from onnxpuma.graph.by_rows import Rows, open_rows, rows_and_columns


class Initializer:
    """A named constant of the model, read on demand.

    `available` is False for a secret weight of a skeleton (`graph.save`): its name, dtype and shape are
    known, its values are not here.
    """

    __slots__ = ("_tensor", "dtype", "name", "shape")

    def __init__(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], tensor: Any = None) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self._tensor = tensor

    @property
    def available(self) -> bool:
        return self._tensor is not None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def numpy(self) -> np.ndarray:
        """The values, shape `self.shape`; read-only. Data stored outside the protobuf is a memory-mapped
        view.

        Raises ModelError when the values are not here, or the data file changed since it was checked.
        """
        if self._tensor is None:
            raise ModelError(
                f"the values of weight '{self.name}' are secret and are not part of this file",
                "run this on the model owner's machine: only it has them",
            )
        with self._reading():
            array = np.asarray(self._tensor.numpy())
        if self.dtype.kind == "O":  # text, stored as bytes
            array = np.array([bytes(text).decode() for text in array.reshape(-1)], dtype=object)
        array = array.reshape(self.shape)
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        return array

    def rows(self) -> Rows:
        """A function that reads rows start to stop: (stop - start, columns). A row is the last axis, all
        axes before it count as one (graph/by_rows.py).

        Many threads may call it. Memory: what it returns; but a weight that can only be computed as a whole
        is computed here. Both raise ModelError as `numpy` does.
        """
        if self._tensor is None or self.dtype.kind == "O":
            values = self.numpy().reshape(rows_and_columns(self.shape))
            return lambda start, stop: values[start:stop]
        with self._reading():
            read = open_rows(self._tensor)

        def rows(start: int, stop: int) -> np.ndarray:
            with self._reading():
                return read(start, stop)

        return rows

    def beginning(self, count: int) -> np.ndarray:
        """The first numbers, at most `count`, in a flat array; reads no more than the rows that hold them."""
        rows, columns = rows_and_columns(self.shape)
        wanted = min(-(-count // max(columns, 1)), rows)
        return self.rows()(0, wanted).reshape(-1)[:count]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as e:
            raise ModelError(f"cannot read weight '{self.name}': {e}", "check the model's data files") from e

    def release(self) -> None:
        """Drop the memory mapping that `numpy` opened (arrays in use stay valid); `numpy` opens it again."""
        if isinstance(self._tensor, ir.ExternalTensor):
            try:
                self._tensor.release()
            except BufferError:  # an array still reads the mapping, which closes with the last of them
                self._tensor.raw = None

    def __repr__(self) -> str:
        return f"Initializer({self.name!r}, {self.dtype}, {self.shape})"
