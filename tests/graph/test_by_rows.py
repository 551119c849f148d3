"""Constants read by rows: the same numbers as read at once, whatever they are stored in and folded with."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxpuma.errors import ModelError
from onnxpuma.graph.by_rows import BLOCK, ByRows, open_rows, rows_in_block, single, times
from onnxpuma.graph.initializer import Initializer
from onnxpuma.graph.on_one_core import products_of_columns, products_of_rows, to_single

KINDS = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(np.float64))


def in_file(folder: Path, values: np.ndarray, before: int = 24) -> ir.ExternalTensor:
    (folder / "weights.bin").write_bytes(bytes(before) + values.tobytes() + b"more")
    return ir.ExternalTensor(
        "weights.bin",
        before,
        values.nbytes,
        ir.DataType.from_numpy(values.dtype),
        shape=ir.Shape(values.shape),
        name="w",
        base_dir=str(folder),
    )


def drawn(shape: tuple[int, ...], kind: np.dtype = KINDS[0]) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", [(37, 50), (4, 9, 20), (300,), ()])
def test_rows_of_a_file(tmp_path: Path, kind: np.dtype, shape: tuple[int, ...]) -> None:
    values = drawn(shape, kind) if shape else np.array(1.5, kind)
    tensor = in_file(tmp_path, values)
    rows = values.reshape(-1, shape[-1] if shape else 1)
    read, weight = open_rows(tensor), Initializer("w", kind, shape, tensor)
    for start, stop in ((0, len(rows)), (len(rows) // 2, len(rows)), (0, 1)):
        np.testing.assert_array_equal(read(start, stop), rows[start:stop])
        np.testing.assert_array_equal(weight.rows()(start, stop), rows[start:stop])
    np.testing.assert_array_equal(weight.beginning(23), values.reshape(-1)[:23])
    np.testing.assert_array_equal(single(read)(0, len(rows)), rows.astype(np.float32))


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_factor_by_rows(tmp_path: Path, axis: int | None) -> None:
    columns = 1000
    values = drawn((2 * BLOCK // columns + 5, columns))
    factor = np.float32(0.3) if axis is None else drawn((values.shape[axis],), KINDS[2])
    tensor = times(times(in_file(tmp_path, values), lambda: factor, axis), lambda: np.float32(2))
    wide = factor if axis != 0 else factor[:, None]
    whole = values.astype(np.float32) * wide * np.float32(2)
    np.testing.assert_array_equal(tensor.numpy(), whole)
    read, middle = open_rows(tensor), rows_in_block(columns)
    np.testing.assert_array_equal(read(middle - 1, middle + 2), whole[middle - 1 : middle + 2])


def test_what_is_computed_as_a_whole_is_computed_once() -> None:
    asked = []

    def compute() -> ir.TensorProtocol:
        asked.append(1)
        return ir.tensor(np.arange(12.0, dtype=np.float32).reshape(4, 3))

    lazy = ir.LazyTensor(compute, dtype=ir.DataType.FLOAT, shape=ir.Shape((4, 3)))
    tensor = times(lazy, lambda: np.float32(2))
    assert isinstance(tensor, ByRows)
    read = open_rows(tensor)
    assert [float(read(row, row + 1)[0, 0]) for row in range(4)] == [0, 6, 12, 18]
    assert len(asked) == 1


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    weight = Initializer("w", KINDS[0], (64, 8), in_file(tmp_path, drawn((64, 8))))
    read = weight.rows()
    (tmp_path / "weights.bin").write_bytes(bytes(500))
    with pytest.raises(ModelError, match="shorter"):
        read(30, 64)


def test_a_file_that_became_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weight = Initializer("w", KINDS[0], (64, 8), in_file(folder, drawn((64, 8))))
    (folder / "weights.bin").rename(tmp_path / "elsewhere")
    (folder / "weights.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="outside"):
        weight.rows()


def test_single_precision_of_every_half() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    for kind in KINDS[:2]:
        halves = bits.view(kind)
        with np.errstate(invalid="ignore"):
            expected = halves.astype(np.float32)
        np.testing.assert_array_equal(to_single(halves), expected)


def test_products_of_groups() -> None:
    x = drawn((3, 5, 40), KINDS[2])
    np.testing.assert_allclose(products_of_rows(x), x @ x.swapaxes(1, 2), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(products_of_columns(x), x.swapaxes(1, 2) @ x, rtol=1e-5, atol=1e-5)
