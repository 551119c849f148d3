"""Weights of few bits whose integers are read late, named by patterns, or inside a branch or a body."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError
from onnxpuma.graph.rules.weight_only import TITLE
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model
from tests.plan.few_bits import (
    COLUMNS,
    PRODUCT,
    RNG,
    WEIGHTS,
    WIDTH,
    Constants,
    Nodes,
    OnShares,
    integers,
    node,
    reals,
)


def made(nodes: Nodes, constants: Constants, **options: Any) -> Any:
    """Blueprint and graph of a model from x (3, WIDTH) to y."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return prepare_model(ir.serde.deserialize_model(proto), Policy(**options))


def test_what_is_computed_is_read_when_it_is_asked_for() -> None:
    nodes, constants = WEIGHTS["uint8, a scale and a zero point for each column"]
    blueprint, graph = made(nodes, constants)
    assert blueprint.recognised[TITLE] == 1
    expected = (constants["q"].astype(np.float32) - constants["zero"]) * constants["s"]
    np.testing.assert_array_equal(graph.initializers["w"].numpy(), expected)


def test_a_weight_that_only_moves_is_not_stored_again() -> None:
    nodes = [node("Transpose", "q", "t"), node("Expand", "t shape", "w"), PRODUCT]
    constants = {"q": reals(COLUMNS, WIDTH), "shape": np.array([7, 1, 1])}
    blueprint, _ = made(nodes, constants, secret=["q"])
    assert blueprint.weights == ["q"]


def test_a_weight_that_would_become_giant_stays_an_expression() -> None:
    nodes = [
        node("Expand", "q shape", "wide"),
        node("Mul", "wide s", "w"),
        node("MatMul", "x w", "many"),
        node("ReduceSum", "many axes", "y"),
    ]
    constants = {
        "q": reals(WIDTH, 1),
        "s": reals(WIDTH, 1),
        "shape": np.array([40, WIDTH, 64]),
        "axes": np.array([0]),
    }
    blueprint, graph = made(nodes, constants, secret=["q", "s"])
    assert set(blueprint.weights) == {"q", "s"}
    assert sum(graph.initializers[name].size for name in blueprint.weights) == 2 * WIDTH


def test_a_shape_that_depends_on_a_weight_is_not_given_away() -> None:
    nodes = [node("Compress", "dense q", "w", axis=1), PRODUCT]
    constants = {"dense": reals(WIDTH, 9), "q": RNG.random(9) < 0.5}
    blueprint, _ = made(nodes, constants, secret=["dense", "q"])
    assert set(blueprint.weights) == {"dense", "q"}


def test_patterns_name_what_stands_in_the_file() -> None:
    nodes, constants = WEIGHTS["int8, one scale"]
    assert made(nodes, constants, secret=["q", "s"])[0].weights == ["w"]
    with pytest.raises(ConfigError, match="'qq'"):
        made(nodes, constants, secret=["q", "qq"])


def test_what_a_pattern_makes_secret_stays_secret_in_what_is_computed_of_it() -> None:
    nodes = [node("Exp", "q", "w"), node("Mul", "x w", "y")]
    blueprint, _ = made(nodes, {"q": np.float32(1.0)}, secret=["q"])
    assert blueprint.visibility == {"w": "secret"}
    nodes = [node("Not", "q", "r"), node("Where", "r x nothing", "y")]
    constants = {"q": np.arange(WIDTH) < 4, "nothing": np.float32(0)}
    blueprint, _ = made(nodes, constants, secret=["q"])
    assert blueprint.visibility["r"] == "secret"


def branch(name: str) -> onnx.GraphProto:
    """x times the branch's own weight; its inner names equal those of the other branch."""
    nodes = [
        node("Cast", f"q{name}", "real", to=TensorProto.FLOAT),
        node("Mul", "real s", "w"),
        node("MatMul", "x w", "part"),
    ]
    part = helper.make_tensor_value_info("part", TensorProto.FLOAT, [3, COLUMNS])
    return helper.make_graph(nodes, name, [], [part])


def test_in_a_branch(on_shares: OnShares) -> None:
    nodes = [node("If", "flag", "y", then_branch=branch("1"), else_branch=branch("2"))]
    constants = {
        "q1": integers(-128, 128, WIDTH, COLUMNS),
        "q2": integers(-128, 128, WIDTH, COLUMNS),
        "s": np.float32(0.0031),
    }
    for flag in (True, False):
        feed = {"x": reals(3, WIDTH), "flag": np.array(flag)}
        ran = on_shares(nodes, constants, feed, secret=["*"], public_inputs=["flag"])
        assert ran.error < 1e-4
        assert ran.operators == ["MatMul", "Identity"]
        assert [ran.blueprint.graph.initializers[n].dtype.kind for n in ran.blueprint.weights] == ["f", "f"]


def test_in_a_body(on_shares: OnShares) -> None:
    inner = [
        node("Cast", "q", "real", to=TensorProto.FLOAT),
        node("Mul", "real s", "w"),
        node("MatMul", "before w", "after"),
        node("Identity", "going", "still"),
    ]
    body = helper.make_graph(
        inner,
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [3, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [3, WIDTH]),
        ],
    )
    nodes = [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)]
    constants = {"q": integers(-20, 20, WIDTH, WIDTH), "s": np.float32(0.0131), "turns": np.array(3)}
    ran = on_shares(nodes, constants, {"x": reals(3, WIDTH)}, secret=["q", "s"])
    assert ran.error < 1e-4
    assert [name for name in ran.operators if not name.startswith("Range")] == ["MatMul"] * 3 + ["Identity"]


def test_what_is_public_is_left_alone() -> None:
    nodes = [node("Cast", "q", "m", to=TensorProto.FLOAT), node("Mul", "x m", "y")]
    constants = {"q": np.arange(WIDTH) < 4}
    blueprint, _ = made(nodes, constants, public=["q"])
    assert TITLE not in blueprint.recognised


def test_numbers_drawn_at_random_are_not_drawn_by_the_owner() -> None:
    nodes = [node("RandomNormalLike", "q", "noise"), node("Mul", "noise q", "w"), PRODUCT]
    blueprint, _ = made(nodes, {"q": reals(WIDTH, COLUMNS)}, secret=["q"])
    assert "q" in blueprint.weights
