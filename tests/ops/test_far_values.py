"""Large values: operators that keep numbers do so to the end of the format; saturating ones do not wrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxpuma.check.single import compare, compare_model
from onnxpuma.roles.local.memory import MemoryModel

RNG = np.random.default_rng(21)
SIZES = (1462, 9000, 65536, 7e4, 1e6, 2.0**30, 2.0**40, 2.0**43 * 0.999)
FAR = np.array([sign * size for size in SIZES for sign in (1, -1)], np.float32)
STEP = 2.0**17  # of single precision beyond 2^40


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for values deep in a model, about which nothing is proved."""
    monkeypatch.setattr("onnxpuma.plan.bounds.ranges.largest_input", lambda format: math.inf)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        *(
            (op, {})
            for op in ("Relu", "Gelu", "Swish", "Mish", "Softplus", "Abs", "Sign", "HardSwish", "Elu")
        ),
        *((op, {}) for op in ("Erf", "Tanh", "Sigmoid", "HardSigmoid")),
        ("Gelu", {"approximate": "tanh"}),
        ("HardSigmoid", {"alpha": -0.5, "beta": 2.0}),
    ],
)
def test_far_out(op: str, attributes: dict[str, object]) -> None:
    near = RNG.uniform(-8, 8, 50).astype(np.float32)
    done = compare(op, {"x": np.concatenate([FAR, near])}, **attributes)
    assert done.outcome.cost == done.outcome.plan.cost
    assert np.abs(done.got - done.want).max() <= 2.5e-3


@pytest.mark.parametrize("ends", [(0.0, 6.0), (-1e6, 2.0**40), (3.5, 3.5), (-2.5, None), (None, 7.0)])
def test_clip_far_out(ends: tuple[float | None, float | None]) -> None:
    given = {name: np.float32(end) for name, end in zip("ab", ends, strict=True) if end is not None}
    if ends[0] is None:
        given = {"a": np.float32(-np.inf), **given}
    done = compare(
        "Clip", {"x": np.concatenate([FAR, np.float32([1, -3, 6, 0])]), **given}, public=tuple(given)
    )
    assert done.outcome.cost == done.outcome.plan.cost
    assert np.array_equal(done.got, done.want)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("ReduceMax", {}), ("ReduceMin", {}), ("ArgMax", {"axis": 1}), ("ArgMin", {"axis": 1})],
)
def test_the_order_of_what_lies_far_out(op: str, attributes: dict[str, object]) -> None:
    """Neighbours in single precision, at both ends of the format."""
    places = np.argsort(RNG.random((6, 9)), axis=1)
    x = (np.where(np.arange(6) % 2, 1, -1)[:, None] * 2.0**42 + places * 4 * STEP).astype(np.float32)
    x[2:4, 0] = -x[2:4, 0]
    done = compare(op, {"x": x}, **attributes)
    assert np.array_equal(done.got, done.want)


def test_windows_and_the_largest_k_far_out() -> None:
    x = (2.0**38 + np.argsort(RNG.random((1, 1, 5, 5)), axis=-1) * 4 * STEP).astype(np.float32)
    for sign in (1, -1):
        done = compare("MaxPool", {"x": sign * x}, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        assert np.array_equal(done.got, done.want)
        done = compare("TopK", {"x": sign * x[0, 0], "k": np.array([3])}, outputs=2)
        assert all(np.array_equal(g, w) for g, w in zip(done.all_got, done.all_want, strict=True))


@pytest.mark.parametrize("op", ["Less", "GreaterOrEqual", "Equal", "Max", "Min"])
def test_two_values_far_out(op: str) -> None:
    x, y = (RNG.integers(-4, 4, (4, 5)) * 2.0**40 for _ in range(2))
    done = compare(op, {"x": np.float32(x), "y": np.float32(y)})
    assert np.array_equal(done.got, done.want)


def test_quotients_by_public_numbers_of_any_size() -> None:
    divisor = np.float32([1e-6, 1e-3, 0.25, 15, 3, 3e4, 6e7, 1e9])
    x = np.float32([[1e-4, 3, -5, 7, 2, 30000, 1.5e8, 2e9], [2e-5, 1e-3, 7, 1e5, 1e-2, -9e4, -3e7, 3e9]])
    done = compare("Div", {"x": x, "c": divisor}, public=("c",))
    assert done.outcome.cost == done.outcome.plan.cost
    wide = np.rint(x.astype(np.float64) * 2**18) / 2**18 / divisor
    assert (np.abs(done.got - wide) <= 1e-5 * np.abs(wide) + 2.0**-17).all()


def test_scores_thousands_apart() -> None:
    x = np.float32([[0, -3000, -8000, -0.5], [-8000, 1, 0, -5000], [4000, 4001, -4000, 0]])
    done = compare("Softmax", {"x": x})
    assert np.abs(done.got - done.want).max() < 1e-4


@pytest.mark.parametrize("op", ["Sigmoid", "Relu", "Abs", "Sign", "Tanh", "HardSigmoid"])
def test_what_a_secret_condition_puts_far_out(op: str) -> None:
    x = np.float32([[0.5, -2, 3, 1], [2, -1, 0, 4]])
    keep = np.array([[True, False, True, True], [False, False, True, True]])
    nodes = [helper.make_node("Where", ["keep", "x", "low"], ["m"]), helper.make_node(op, ["m"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "masked",
        [helper.make_tensor_value_info("keep", 9, [2, 4]), helper.make_tensor_value_info("x", 1, [2, 4])],
        [helper.make_tensor_value_info("y", 1, [2, 4])],
        [numpy_helper.from_array(np.float32(-(2.0**30)), "low")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    done = compare_model(model, {"keep": keep, "x": x})
    assert done.outcome.cost == done.outcome.plan.cost
    assert np.abs(done.got - done.want).max() <= 2.5e-3


@pytest.mark.parametrize("divisor", [[1e-3, 0.25, 15, 3e4, 1e6, 1e9], [6e7], [1e-9] * 6])
def test_a_divisor_that_its_owner_made_public(divisor: list[float]) -> None:
    """It is not replaced by its reciprocal, for which one scale has too few digits."""
    x, weights = np.float32([[3, -5, 1e5, 7, 30000, 2]]), np.float32(divisor)
    x = x * np.float32(1e-4) if divisor[0] == 1e-9 else x
    graph = helper.make_graph(
        [helper.make_node("Div", ["x", "c"], ["y"])],
        "quotient",
        [helper.make_tensor_value_info("x", 1, [1, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 6])],
        [numpy_helper.from_array(weights, "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    done = MemoryModel(model, at_client=False, public=["c"]).run({"x": x})
    want = np.rint(x.astype(np.float64) * 2**18) / 2**18 / weights
    assert done.cost == done.plan.cost
    assert (np.abs(done.outputs["y"] - want) <= 1e-5 * np.abs(want) + 2.0**-17).all()
