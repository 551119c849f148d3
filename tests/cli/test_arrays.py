"""Files of arrays: outputs of any name can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxpuma.commands.arrays import read_arrays, write_arrays
from onnxpuma.errors import ConfigError

NAMES = (
    "file",
    "args",
    "kwds",
    "allow_pickle",
    "self",
    "a/b",
    "/decoder/out:0",
    "../y",
    "y.npy",
    "arr_0",
    "é ü",
)


def test_any_name_is_kept(tmp_path: Path) -> None:
    arrays = {name: np.full((2, number), number, np.float32) for number, name in enumerate(NAMES)}
    arrays["scalar"] = np.array(3)
    arrays["text"] = np.array(["a", "longer"], dtype=object)
    write_arrays(tmp_path / "y.npz", arrays)
    found = read_arrays(tmp_path / "y.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype.kind == ("U" if name == "text" else array.dtype.kind)
    assert [file.name for file in tmp_path.iterdir()] == ["y.npz"]


def test_numpy_reads_them_too(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npz", {"file": np.arange(3)})
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_array_equal(found["file"], np.arange(3))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write_arrays(tmp_path / "none" / "y.npz", {"y": np.arange(3)})
