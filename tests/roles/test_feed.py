"""Every mistake in a feed raises an InputError that names the input and says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxpuma.errors import InputError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.roles.request.feed import check_feed, check_outputs, check_values


@pytest.fixture(scope="module")
def blueprint(model_dir: Path) -> Blueprint:
    return Blueprint.read(model_dir)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown name": ({"idz": np.zeros((2, 3), np.int64)}, "no input 'idz'"),
    "missing name": ({"x": None}, "no value for input 'x'"),
    "rank": ({"x": np.zeros(8, np.float32)}, "'x' has shape"),
    "fixed dimension": ({"x": np.zeros((2, 9), np.float32)}, "'x' has shape"),
    "two batches": ({"x": np.zeros((3, 8), np.float32)}, "has shape"),
    "empty": ({"ids": np.zeros((2, 0), np.int64), "attention_mask": np.zeros((2, 0), np.int64)}, "has shape"),
    "floats as ids": ({"ids": np.zeros((2, 3), np.float32)}, "'ids' is of type float32"),
    "unsigned ids": ({"ids": np.zeros((2, 3), np.uint64)}, "'ids' is of type uint64"),
    "complex": ({"x": np.zeros((2, 8), np.complex64)}, "'x' is of type complex64"),
    "text": ({"x": np.full((2, 8), "a")}, "'x' is of type <U1"),
    "objects": ({"x": np.full((2, 8), None)}, "'x' is of type object"),
    "longer floats": ({"x": np.zeros((2, 8), np.longdouble)}, "'x' is of type"),
    "ragged": ({"x": [[1.0], [1.0, 2.0]]}, "'x' is not an array"),
    "NaN": ({"x": np.full((2, 8), np.nan, np.float32)}, "'x' holds NaN"),
    "infinity": ({"x": np.full((2, 8), -np.inf, np.float32)}, "'x' holds NaN or infinity"),
    "too large": ({"x": np.full((2, 8), 2.0**42 * 1.01, np.float32)}, "beyond 4.39805e\\+12"),
    "too small": ({"x": np.full((2, 8), -1e30)}, "magnitude 1e\\+30"),
    "id above": ({"ids": np.full((2, 3), 50)}, "'ids' holds the id 50"),
    "id below": ({"ids": np.full((2, 3), -1)}, "'ids' holds the id -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_feed(case: str, blueprint: Blueprint, feed: dict[str, np.ndarray]) -> None:
    changes, match = BAD[case]
    wrong = {**feed, **changes}
    wrong = {name: value for name, value in wrong.items() if value is not None}
    with pytest.raises(InputError, match=match.replace("1.04858e+06", r"1\.04858e\+06")) as caught:
        check_feed(blueprint, wrong)
    assert caught.value.hint


def test_an_unknown_name_gets_the_nearest_one(blueprint: Blueprint, feed: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError) as caught:
        check_feed(blueprint, {**feed, "idss": feed["ids"]})
    assert "did you mean 'ids'?" in caught.value.hint


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_what_fits_in_float64_is_a_real(
    kind: type, blueprint: Blueprint, feed: dict[str, np.ndarray]
) -> None:
    arrays = check_feed(blueprint, {**feed, "x": np.ones((2, 8), kind)})
    assert arrays["x"].dtype == np.float32
    assert np.array_equal(arrays["x"], np.ones((2, 8)))


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint32, np.int64, np.bool_])
def test_what_fits_in_int64_is_an_id(kind: type, blueprint: Blueprint, feed: dict[str, np.ndarray]) -> None:
    assert check_feed(blueprint, {**feed, "ids": np.ones((2, 3), kind)})["ids"].dtype == np.int64


def test_lists_and_foreign_layouts(blueprint: Blueprint, feed: dict[str, np.ndarray]) -> None:
    arrays = check_feed(blueprint, {**feed, "ids": feed["ids"].tolist(), "x": np.ones((8, 2), np.float32).T})
    assert np.array_equal(arrays["ids"], feed["ids"])
    assert arrays["x"].flags.c_contiguous
    assert list(arrays) == ["ids", "attention_mask", "x"]


def test_the_largest_values_pass(blueprint: Blueprint, feed: dict[str, np.ndarray]) -> None:
    check_feed(blueprint, {**feed, "x": np.full((2, 8), -(2.0**42)), "ids": np.full((2, 3), 49)})


@pytest.mark.parametrize("low", [-1e4, -1e9, float(np.finfo(np.float32).min), -np.inf])
def test_a_mask_may_be_as_far_down_as_it_likes(low: float) -> None:
    """The client raises it to what softmaxes read; large positive values and other inputs are refused."""
    text = "g (float[2, 4] x, float[2, 4] m) => (float[2, 4] y) { t = Neg(x) s = Add(t, m) y = Softmax(s) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text}')
    blueprint, _ = prepare_model(ir.from_proto(model), Policy(secret_inputs=["m", "x"]))
    mask = np.array([[0, low, 3, 0]] * 2, np.float32)
    plan = compile_plan(blueprint, {"x": (2, 4), "m": (2, 4)}, at_client=False)
    fed = check_feed(blueprint, {"x": np.zeros((2, 4)), "m": mask})
    check_values(plan, fed)  # type: ignore[arg-type]
    shared = {entry.name: entry.saturated(np.asarray(fed[entry.name])) for entry in plan.inputs}
    assert np.array_equal(shared["m"] == 0, mask == 0)
    assert -(2.0**14) <= shared["m"].min() <= -(2.0**13)
    with pytest.raises(InputError, match="'m' holds"):
        check_values(plan, {**fed, "m": -mask * 1e10})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="'x' holds"):
        check_feed(blueprint, {"x": np.full((2, 4), -1e14), "m": mask})


def test_outputs(blueprint: Blueprint) -> None:
    assert check_outputs(blueprint, None) == (("y", "length", "mirrored"), ())
    assert check_outputs(blueprint, None, ["y"]) == ((), ("y",))
    assert check_outputs(blueprint, ["length", "y", "length"], ["y"]) == (("length", "y"), ("y",))
    with pytest.raises(InputError, match="no output is wanted"):
        check_outputs(blueprint, [])
    with pytest.raises(InputError, match="no output 'z'"):
        check_outputs(blueprint, None, ["z"])
    with pytest.raises(InputError, match="no output 'z'"):
        check_outputs(blueprint, ["z"])
