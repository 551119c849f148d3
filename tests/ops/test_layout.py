"""Operators that only move elements: exact, free, and on secret integers as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 4
IMAGE = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4) / 4
I64 = np.int64


def ints(*values: int) -> np.ndarray:
    return np.array(values, I64)


CASES: list[tuple[str, Mapping[str, np.ndarray | None], dict[str, Any]]] = [
    ("Reshape", {"x": X, "s": ints(4, -1)}, {}),
    ("Reshape", {"x": X, "s": ints(0, 12)}, {}),
    ("Flatten", {"x": X}, {"axis": 2}),
    ("Squeeze", {"x": X[:1], "a": ints(0)}, {}),
    ("Unsqueeze", {"x": X, "a": ints(0, -1)}, {}),
    ("Identity", {"x": X}, {}),
    ("Dropout", {"x": X}, {}),
    ("Transpose", {"x": X}, {}),
    ("Transpose", {"x": X}, {"perm": [1, 2, 0]}),
    ("Expand", {"x": X[:, :1], "s": ints(5, 1, 3, 1)}, {}),
    ("Split", {"x": X, "s": ints(1, 2)}, {"axis": 1, "outputs": 2}),
    ("Split", {"x": X}, {"axis": 2, "num_outputs": 2, "outputs": 2}),
    ("Concat", {"x": X, "y": X[:1]}, {"axis": 0}),
    ("Slice", {"x": X, "b": ints(0, -1), "e": ints(2, -9), "a": ints(1, 2), "s": ints(1, -2)}, {}),
    ("Tile", {"x": X, "r": ints(1, 2, 3)}, {}),
    ("Gather", {"x": X, "i": np.array([[2, 0], [1, -1]])}, {"axis": 1}),
    ("Gather", {"x": X, "i": np.array(1)}, {"axis": 0}),
    ("GatherElements", {"x": X[0], "i": np.array([[0, 2, 1, 0]])}, {"axis": 0}),
    ("GatherND", {"x": X, "i": np.array([[0, 1], [1, 2]])}, {}),
    ("DepthToSpace", {"x": IMAGE}, {"blocksize": 2}),
    ("SpaceToDepth", {"x": IMAGE}, {"blocksize": 2}),
    ("Trilu", {"x": X}, {}),
    ("Trilu", {"x": X, "k": np.array(-1)}, {"upper": 0}),
    ("Compress", {"x": X, "c": np.array([True, False, True])}, {"axis": 1}),
    ("ReverseSequence", {"x": X, "n": ints(1, 2, 3)}, {"time_axis": 0, "batch_axis": 1}),
    ("Pad", {"x": X[0], "p": ints(1, 0, 2, 1)}, {}),
    ("Pad", {"x": X[0], "p": ints(1, 0, 2, 1), "v": np.float32(-2.5)}, {}),
    ("Pad", {"x": X[0], "p": ints(1, 1, 1, 1)}, {"mode": "reflect"}),
    ("Pad", {"x": X[0], "p": ints(2, 1), "v": None, "a": ints(1)}, {"mode": "edge"}),
    ("ScatterND", {"x": X, "i": np.array([[1], [0]]), "u": X[:, ::-1].copy()}, {}),
    ("ScatterElements", {"x": X[0], "i": np.array([[2, 0, 1, 2]]), "u": -X[0, :1]}, {"axis": 0}),
    ("CumSum", {"x": X, "a": np.array(1)}, {}),
    ("CumSum", {"x": X, "a": np.array(-1)}, {"exclusive": 1, "reverse": 1}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES)
def test_moving_reals_is_exact_and_free(
    check: Check, op: str, inputs: Mapping[str, np.ndarray | None], attributes: dict[str, Any]
) -> None:
    done = compare(op, inputs, **attributes)
    check(done, 0)
    assert done.outcome.cost.bits == 0


@pytest.mark.parametrize(("op", "inputs", "attributes"), [c for c in CASES if c[0] != "Dropout"])
def test_moving_secret_integers(
    check: Check, op: str, inputs: Mapping[str, np.ndarray | None], attributes: dict[str, Any]
) -> None:
    whole: dict[str, np.ndarray | None] = {}
    for name, value in inputs.items():
        real = value is not None and value.dtype.kind == "f"
        whole[f"secret_{name}" if real else name] = (4 * value).astype(I64) if real else value  # type: ignore[operator]
    check(compare(op, whole, **attributes), 0)


@pytest.mark.parametrize("op", ["Concat", "ScatterND", "Pad"])
def test_public_and_secret_operands_meet(check: Check, op: str) -> None:
    _, inputs, attributes = next(case for case in CASES if case[0] == op)
    floats = [n for n, v in inputs.items() if v is not None and v.dtype.kind == "f"]
    for hidden in floats:
        check(compare(op, inputs, public=[n for n in floats if n != hidden], **attributes), 0)


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="training mode"):
        compare("Dropout", {"x": X, "r": np.float32(0.5), "t": np.array(True)}, public=["r"])
    with pytest.raises(UnsupportedModelError, match="indices are secret"):
        compare("ScatterND", {"x": X, "secret_i": np.array([[1], [0]]), "u": X})


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_parts_with_every_kind_of_end(check: Check, step: int) -> None:
    x = np.arange(40, dtype=np.float32).reshape(5, 8)
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    up = [(0, 3), (4, 1), (-1, -5), (-9, 9), (2, -1), (lowest, highest)]
    down = [(0, 3), (4, 1), (-1, -5), (9, -9), (highest, lowest), (2, 0), (-9, lowest)]
    for start, end in up if step > 0 else down:
        feed = {"x": x, "s": np.array([start, 1]), "e": np.array([end, 7]), "a": np.array([-2, 1])}
        check(compare("Slice", {**feed, "k": np.array([step, 3])}), 0)


@pytest.mark.parametrize("index", [[[0, 1, 2], [0, 1, 2]], [[0, 2, 1], [1, 1, 1]], [[0, 1], [0, 1]]])
def test_rows_of_each_sequence(check: Check, index: list[list[int]]) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    check(compare("GatherND", {"x": x, "i": np.array(index)[..., None]}, batch_dims=1), 0)
