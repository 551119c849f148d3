"""Calibration: its records, the planner's use of them, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.check.trace import NodeTrace, trace
from onnxpuma.errors import InputError
from onnxpuma.graph.model import Graph
from onnxpuma.mpc.cost import Network
from onnxpuma.ops.limits import number
from onnxpuma.ops.registry import operators
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.calibrate import RangeWarning
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.roles.owner.samples import calibrated

RNG = np.random.default_rng(7)
WIDTH = 32
SECRET = helper.make_node("Add", ["x", "origin"], ["s"], name="shared")


def of_nodes(*nodes: onnx.NodeProto, **weights: np.ndarray) -> tuple[Blueprint, Graph]:
    """A model from x (batch, WIDTH) to y, all weights secret."""
    float_type = onnx.TensorProto.FLOAT
    shape = ["batch", WIDTH]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", float_type, shape)],
        [helper.make_tensor_value_info("y", float_type, shape)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    return prepare_model(ir.serde.deserialize_model(proto), rewrite=False)


def alone(op: str, **attributes: object) -> tuple[Blueprint, Graph]:
    """A model of one node that reads a secret: the sum of the input and a weight of zeros."""
    weights = {"scale": np.ones(WIDTH)} if "Normalization" in op else {}
    node = helper.make_node(op, ["s", *weights], ["y"], name="node", **attributes)
    return of_nodes(SECRET, node, origin=np.zeros(WIDTH), **weights)


def sample(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def traced(made: tuple[Blueprint, Graph], x: np.ndarray) -> NodeTrace:
    return trace(*made, {"x": x})


def with_samples(made: tuple[Blueprint, Graph], *samples: np.ndarray) -> tuple[Blueprint, Graph]:
    return calibrated(*made, [{"x": x} for x in samples]), made[1]


def cost(made: tuple[Blueprint, Graph], rows: int = 100) -> float:
    """Bits, where rounds do not count."""
    return compile_plan(made[0], {"x": (rows, WIDTH)}, network=Network(latency=0.0)).cost.bits


# -- what is recorded ------------------------------------------------------------------------


def test_a_power_of_two_with_a_margin_of_four_to_eight() -> None:
    x = sample(4, WIDTH)
    for largest, exponent in ((3.0, 4), (4.0, 4), (4.1, 5), (1000.0, 12)):
        x[2, 5] = -largest
        found, _ = with_samples(alone("Gelu"), np.clip(x, -largest, largest))
        assert found.ranges == {"node": {"argument": exponent}}


def test_the_largest_of_all_samples_counts() -> None:
    made = alone("RMSNormalization")
    small, large = sample(3, WIDTH), sample(2, WIDTH, scale=3e4)
    norm = np.linalg.norm(large, axis=1).max()
    found, _ = with_samples(made, small, large, small)
    exponent = found.ranges["node"]["norm"]
    assert 4 * norm <= 2.0**exponent < 8 * norm


def test_samples_along_the_first_axis() -> None:
    made = alone("Softmax")
    x = sample(6, 2, WIDTH, scale=20)
    stacked = calibrated(*made, [{"x": x}])
    assert stacked.ranges == calibrated(*made, [{"x": each} for each in x]).ranges
    assert set(stacked.ranges["node"]) == {"spread"}


def test_what_operators_make_nothing_of_is_not_recorded() -> None:
    nodes = [helper.make_node("Mul", ["x", "x"], ["a"], name="square")]
    nodes.append(helper.make_node("Add", ["a", "a"], ["y"], name="sum"))
    found, _ = with_samples(of_nodes(*nodes), sample(3, WIDTH))
    assert found.ranges == {}


def test_how_large_a_product_with_a_weight_becomes_is_recorded() -> None:
    """The weight may then rest in a smaller ring."""
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    x = np.array([[0.5] * (WIDTH - 1) + [-3.0]], np.float32)
    found, _ = with_samples(of_nodes(product, w=2 * np.eye(WIDTH)), x)
    assert found.ranges == {"product": {"product": 5}}  # the largest is 6, the margin 4 to 8 times


def test_ranges_are_part_of_the_digest_and_of_what_is_saved(tmp_path: Path) -> None:
    made = alone("Gelu")
    found, _ = with_samples(made, sample(3, WIDTH))
    other, _ = with_samples(made, sample(3, WIDTH, scale=30))
    assert len({made[0].digest, found.digest, other.digest}) == 3
    found.save(tmp_path)
    read = Blueprint.read(tmp_path)
    assert (read.ranges, read.digest) == (found.ranges, found.digest)


# -- what the planner makes of it ------------------------------------------------------------

OUTSIDE: Mapping[str, tuple[tuple[Blueprint, Graph], float]] = {
    "softmax": (alone("Softmax"), 4e4),
    "rms": (alone("RMSNormalization"), 9e5),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_wrong_outside_the_range_and_right_once_calibrated(name: str) -> None:
    """A wrong result without an error: `trace` says where and why, and calibration corrects it."""
    made, scale = OUTSIDE[name]
    x = sample(40, WIDTH, scale=scale / 8)
    x[::3, 4:8] = scale * np.where(np.arange(len(x[::3])) % 2, 1, -1)[:, None]
    wrong = traced(made, x)
    assert wrong.first is not None
    assert wrong.first.node == "node"
    assert [use.inside for use in wrong.first.ranges].count(False) == 1
    right = traced(with_samples(made, x), x)
    assert right.first is None
    assert all(use.inside for node in right.nodes for use in node.ranges)


@pytest.mark.parametrize("op", ["Gelu", "Swish", "Tanh", "Softplus", "Relu"])
@pytest.mark.parametrize("scale", [3e4, 1e6])
def test_activations_are_right_however_large_their_arguments_are(op: str, scale: float) -> None:
    x = sample(40, WIDTH, scale=scale / 8)
    x[::3, 4:8] = scale * np.where(np.arange(len(x[::3])) % 2, 1, -1)[:, None]
    assert traced(alone(op), x).first is None
    assert traced(with_samples(alone(op), x), x).first is None


@pytest.mark.parametrize("op", ["Gelu", "Swish", "Relu", "Softmax", "RMSNormalization"])
def test_a_small_range_costs_less_and_stays_right(op: str) -> None:
    made, x = alone(op), sample(40, WIDTH)
    calibrated_for = with_samples(made, x)
    assert cost(calibrated_for) < 0.95 * cost(made)
    run = traced(calibrated_for, 2 * x)
    assert run.first is None


@pytest.mark.parametrize("op", ["Gelu", "Tanh", "Swish", "Relu", "Softmax", "RMSNormalization"])
@pytest.mark.parametrize("exponent", [-8, 0, 3, 6, 9, 12, 14])
def test_right_up_to_the_bound(op: str, exponent: int) -> None:
    """Right up to the bound, for the narrowest readings and for wide ones."""
    key = {"Softmax": "spread", "RMSNormalization": "norm"}.get(op, "argument")
    blueprint, graph = alone(op)
    below = 2.0**exponent
    x = RNG.uniform(-1, 1, (60, WIDTH)).astype(np.float32)
    x *= max(below - 2, below / 2) / 2 if op == "Softmax" else below / 6 if op[:3] == "RMS" else below
    run = traced((replace(blueprint, ranges={"node": {key: exponent}}), graph), x * np.float32(0.999))
    assert run.first is None
    assert not [use for node in run.nodes for use in node.outside]


def test_masks_count_as_what_stands_for_them() -> None:
    """Scores that a public mask excludes are not computed, and do not count for how far scores lie apart."""
    mask = np.zeros(WIDTH)
    mask[WIDTH // 2 :] = -10000
    nodes = [
        SECRET,
        helper.make_node("Add", ["s", "mask"], ["a"], name="masked"),
        helper.make_node("Softmax", ["a"], ["y"], name="node"),
    ]
    blueprint, graph = of_nodes(*nodes, mask=mask, origin=np.zeros(WIDTH))
    open_mask = replace(blueprint, visibility={**blueprint.visibility, "mask": "public"})
    open_mask.graph.initializers["mask"] = graph.initializers["mask"]
    made = with_samples((open_mask, graph), sample(3, WIDTH))
    assert made[0].ranges == {"node": {"spread": 4}}
    assert traced(made, sample(3, WIDTH)).first is None


def test_a_product_with_few_bits_left_is_truncated_before_a_wide_reading() -> None:
    """With 48 fraction bits there is no room for a large argument."""
    product = helper.make_node("Gemm", ["x", "w"], ["b"], name="product", alpha=2.0**-11)
    for op in ("Swish", "Gelu", "Relu", "Softmax"):
        made = of_nodes(product, helper.make_node(op, ["b"], ["y"], name="node"), w=2**11 * np.eye(WIDTH))
        plan = compile_plan(made[0], {"x": (3, WIDTH)})
        assert plan.steps[0].call.outputs[0].fraction == 47
        assert plan.steps[0].resolves == (False,)
        x = sample(40, WIDTH, scale=2.0**12)
        calibrated_for = with_samples(made, x)
        assert traced(calibrated_for, x).first is None


def test_what_calibration_cannot_move_is_warned_of() -> None:
    nodes = [SECRET, helper.make_node("Mul", ["s", "s"], ["y"], name="square")]
    made = of_nodes(*nodes, origin=np.zeros(WIDTH))
    x = sample(3, WIDTH)
    x[1, 4] = 1e4
    with pytest.warns(RangeWarning, match=r"\|result\| of node 'square' is 1e\+08, and must be below 2\^26"):
        with_samples(made, x)


# -- what is refused -------------------------------------------------------------------------


def test_samples_that_do_not_fit_are_refused() -> None:
    made = alone("Gelu")
    x = sample(3, WIDTH)
    bad = np.where(x > 1, np.nan, x)
    for arrays, message in (
        ({}, "no value for input 'x'"),
        ({"x": x, "other": x}, "no input 'other'"),
        ({"x": x[:, :7]}, "shape"),
        ({"x": x.reshape(1, 1, 3, WIDTH)}, "shape"),
        ({"x": bad}, "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            calibrated(*made, [arrays])
    with pytest.raises(InputError, match="no sample"):
        calibrated(*made, [])


def test_different_numbers_of_samples_are_refused() -> None:
    float_type = onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(n, float_type, [WIDTH]) for n in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", values[:2], values[2:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    made = prepare_model(ir.serde.deserialize_model(proto))
    with pytest.raises(InputError, match="a 3, b 4"):
        calibrated(*made, [{"a": sample(3, WIDTH), "b": sample(4, WIDTH)}])
    assert calibrated(*made, [{"a": sample(3, WIDTH), "b": sample(WIDTH)}]).ranges == {}


def test_what_is_no_number_in_the_clear_is_refused() -> None:
    nodes = [
        SECRET,
        helper.make_node("Log", ["s"], ["a"], name="log"),
        helper.make_node("Gelu", ["a"], ["y"], name="node"),
    ]
    with pytest.raises(InputError, match="'node' are not numbers"):
        with_samples(of_nodes(*nodes, origin=np.zeros(WIDTH)), sample(3, WIDTH))


# -- the declarations ------------------------------------------------------------------------


def test_bounds_read_as_people_write_them() -> None:
    assert [number(v) for v in (2.0**20, 1024, 1000, 2.0**-18, 4, 0.5)] == [
        "2^20", "2^10", "1000", "2^-18", "4", "0.5",
    ]  # fmt: skip


def test_operators_with_a_range_say_so() -> None:
    bare = [name for name, entry in operators().items() if entry.limits.__name__ == "no_limit"]
    for name in ("Gelu", "Softmax", "LayerNormalization", "Attention", "MatMul", "Reciprocal", "Exp", "Relu"):
        assert name not in bare
