"""Choices by an exact sign: Max, Min, Clip, Abs and the piecewise-linear activations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpuma.check.single import OPSET, Comparison, compare, compare_model
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.mpc.cost import Network

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
FAR = 2.0**22
EDGES = np.array([0, UNIT, -UNIT, 1, -1, FAR, -FAR, 2.5, -2.5, 1000.25], np.float32)


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 30, shape).astype(np.float32)


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("public", [[], ["a"], ["b"]])
def test_the_extreme_of_two(check: Check, op: str, public: list[str]) -> None:
    check(compare(op, {"a": EDGES, "b": EDGES[::-1].copy()}, public=public), 0)
    check(compare(op, {"a": reals(3, 5), "b": reals(5, seed=1)}, public=public), UNIT)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_the_extreme_of_many(check: Check, op: str) -> None:
    values = {"a": reals(4, 1), "b": reals(1, 3, seed=1), "c": reals(4, 3, seed=2), "d": reals(3, seed=3)}
    check(compare(op, values), UNIT)
    check(compare(op, values, public=["b", "d"]), UNIT)
    check(
        compare(
            op,
            {"a": reals(60, 50), "b": np.full((), np.inf if op == "Min" else -np.inf, np.float32)},
            public=["b"],
        ),
        UNIT,
    )


def test_bounds_that_look_like_a_mask(check: Check) -> None:
    bounds = np.array([0, -np.inf, -20000, 0], np.float32)
    check(compare("Max", {"a": reals(3, 4), "b": bounds}, public=["b"]), UNIT)
    check(compare("Min", {"a": reals(3, 4), "b": -bounds}, public=["b"]), UNIT)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_secret_integers(check: Check, op: str) -> None:
    values = np.array([3, -(2**40), 2**40, 0, -1])
    check(compare(op, {"secret_a": values, "secret_b": values[::-1].copy()}), 0)


@pytest.mark.parametrize(
    ("low", "high"), [(-1, 2), (None, 2), (-1, None), (0, 6), (3, -3), (-3.4e38, 3.4e38)]
)
@pytest.mark.parametrize("public", [["low", "high"], []])
def test_clip(check: Check, low: float | None, high: float | None, public: list[str]) -> None:
    if not public and low is not None and abs(low) > 1e6:
        pytest.skip("a secret bound is a number of the format")
    bounds = {n: None if v is None else np.float32(v) for n, v in (("low", low), ("high", high))}
    check(compare("Clip", {"x": EDGES, **bounds}, public=[n for n in public if bounds[n] is not None]), UNIT)


def test_clip_without_bounds(check: Check) -> None:
    check(compare("Clip", {"x": EDGES}), 0)


def test_abs(check: Check) -> None:
    check(compare("Abs", {"x": EDGES}), 0)
    check(compare("Abs", {"x": reals(50, 40)}), UNIT)
    check(compare("Abs", {"secret_x": np.array([-5, 5, 0, -(2**40)])}), 0)


def test_leaky_relu(check: Check) -> None:
    check(compare("LeakyRelu", {"x": reals(4, 7)}), 4 * UNIT)
    check(compare("LeakyRelu", {"x": EDGES}, alpha=0.5), UNIT)


@pytest.mark.parametrize("public", [[], ["slope"]])
def test_parametric_relu(check: Check, public: list[str]) -> None:
    slope = np.array([[0.25], [-1.5], [0.01]], np.float32)
    check(compare("PRelu", {"x": reals(2, 3, 5), "slope": slope}, public=public), 100 * UNIT)


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.5), (1 / 6, 0.5), (2.0, 0.0)])
def test_hard_sigmoid(check: Check, alpha: float, beta: float) -> None:
    x = np.concatenate([np.linspace(-6, 6, 41), [500, -500]]).astype(np.float32)
    check(compare("HardSigmoid", {"x": x}, alpha=alpha, beta=beta), 4 * UNIT)


def test_hard_swish(check: Check) -> None:
    x = np.concatenate([np.linspace(-6, 6, 41), [500, -500]]).astype(np.float32)
    check(compare("HardSwish", {"x": x}), 500 * 4 * UNIT)


@pytest.mark.parametrize("op", ["Abs", "LeakyRelu", "HardSigmoid", "Clip"])
def test_gates_that_take_all_bits_save_a_round_each(check: Check, op: str) -> None:
    """Far apart the servers gate whole words, on a thin line only the bits that a bounded value needs."""
    x = np.random.default_rng(1).uniform(-9, 9, 20_000).astype(np.float32)
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["c"]), helper.make_node(op, ["c"], ["y0"])]
    if op == "Clip":
        nodes[1].input.extend(["", "one"])
    numbers = (("low", -8.0), ("high", 8.0), ("one", 1.0))
    ends = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in numbers]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    graph = helper.make_graph(nodes, "chain", [given], [onnx.ValueInfoProto(name="y0")], ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    far, thin = (compare_model(model, {"x": x}, network=n) for n in (Network(1e10, 0.04), Network(1e8, 1e-5)))
    for done in (far, thin):
        check(done, 1e-5)
    assert far.outcome.cost.rounds == thin.outcome.cost.rounds - 2
    assert far.outcome.cost.bits > thin.outcome.cost.bits


def test_a_bound_that_is_no_number_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="NaN"):
        compare("Max", {"x": EDGES, "y": np.float32(np.nan)}, public=["y"])


def test_a_flat_line_of_what_is_proved_small() -> None:
    """It is compared with ends that are far from all its inputs."""
    text = "(float[10] x) => (float[10] y) { s = Sin(x) y = HardSigmoid <alpha = 0.01> (s) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 21]> g {text}')
    for number, node in enumerate(model.graph.node):
        node.name = str(number)
    assert compare_model(model, {"x": EDGES}).error <= 4 * UNIT
