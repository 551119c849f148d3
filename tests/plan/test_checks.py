"""The range check of a run: what leaves its range is told, by a little or by far; what stays is never."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxpuma.errors import InputError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.roles.feed import check_values
from onnxpuma.roles.memory import MemoryModel

RNG = np.random.default_rng(12)
SHAPE = (2, 6, 40)  # two batches of six rows


def model(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[int] = SHAPE, **weights: np.ndarray
) -> onnx.ModelProto:
    """h = x W, which is x, and what the nodes make of it; W is secret."""
    weights["W"] = np.eye(shape[-1])
    first = helper.make_node("MatMul", ["x", "W"], ["h"], name="first")
    initializers = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph([first, *nodes], "checked", given, made, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def one(op: str, inputs: Sequence[str] = ("h",), **attributes: Any) -> MemoryModel:
    node = helper.make_node(op, list(inputs), ["y"], name="checked", **attributes)
    weights = {"s": np.ones(SHAPE[-1]), "z": np.zeros(SHAPE[-1])}
    return MemoryModel(model([node], **{name: w for name, w in weights.items() if name in inputs}))


SUM = helper.make_node("Add", ["h", "z"], ["r"], name="sum")
CASES: dict[str, tuple[MemoryModel, float, float]] = {  # and the typical size, and where the range ends
    "gelu of a product": (one("Gelu"), 3.0, 1016.0),
    "silu of a product": (one("Swish"), 3.0, 4074.0),
    "tanh of a product": (one("Tanh"), 3.0, 2032.0),
    "layer normalisation": (one("LayerNormalization", ("h", "s")), 100.0, 2.0**20),
    "root mean square": (one("RMSNormalization", ("h", "s")), 100.0, 2.0**20),
    "softmax of a product": (one("Softmax"), 3.0, 1022.0),
    "exponential": (one("Exp"), 3.0, 11.0),
    "reciprocal": (one("Reciprocal"), 50.0, 2.0**15),
}
PLACES = [(0, 0, 0), (0, -1, -1), (-1, -1, -1)]
KINDS = pytest.mark.parametrize("kind", CASES)


def drawn(kind: str, size: float) -> np.ndarray:
    """In range; the reciprocal's are not near zero, the exponential's below 11."""
    x = RNG.normal(0, size, SHAPE)
    if kind == "reciprocal":
        x = np.sign(x) * np.maximum(np.abs(x), 1.0)
    return np.minimum(x, 10.5) if kind == "exponential" else x


@KINDS
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_one_value_out_of_its_range_is_told(kind: str, place: tuple[int, ...]) -> None:
    runner, size, end = CASES[kind]
    for times in (1.03, 700.0):
        for sign in (1, -1):
            if (kind == "exponential" and sign < 0) or end * times > 2.0**25:
                continue
            x = drawn(kind, size)
            x[place] = sign * end * times * (1.02 if "norm" in kind else 1.0)
            if "softmax" in kind:
                x[place] += 8 * sign
            assert not runner.run({"x": x.astype(np.float32)}).reliable, (times, sign)


@KINDS
def test_values_in_their_range_are_not(kind: str) -> None:
    runner, size, end = CASES[kind]
    for number in range(6):
        x = drawn(kind, size)
        if number % 2 and kind != "exponential":
            x[PLACES[number % len(PLACES)]] = (
                (0.5 if "softmax" in kind else 0.8) * end * (-1) ** (number // 2)
            )
        outcome = runner.run({"x": x.astype(np.float32)})
        assert outcome.reliable, number
        assert outcome.cost == outcome.plan.cost


@pytest.mark.parametrize("far", [2.0**30, -(2.0**38), 2.0**40, 2.0**42])
def test_what_is_far_out_does_not_come_round(far: float) -> None:
    norm = helper.make_node("LayerNormalization", ["r", "s"], ["y"], name="norm")
    runner = MemoryModel(
        model([helper.make_node("Add", ["x", "z"], ["r"], name="sum"), norm], s=np.ones(40), z=np.ones(40))
    )
    for place in PLACES:
        x = RNG.normal(0, 3, SHAPE)
        x[place] = far
        assert not runner.run({"x": x.astype(np.float32)}).reliable
    assert runner.run({"x": RNG.normal(0, 3, SHAPE).astype(np.float32)}).reliable


def attention(offset: float = 0.0) -> MemoryModel:
    """Of queries h, keys h + offset and values h, ten heads of four; the offset is the weight z."""
    keys = helper.make_node("Add", ["h", "z"], ["k"], name="keys")
    node = helper.make_node("Attention", ["h", "k", "h"], ["y"], q_num_heads=10, kv_num_heads=10)
    return MemoryModel(model([keys, node], z=np.full(40, offset)))


@pytest.mark.parametrize("offset", [0.0, 200.0])
def test_scores_of_an_attention(offset: float) -> None:
    runner = attention(offset)
    for _ in range(5):
        assert runner.run({"x": RNG.normal(0, 3, SHAPE).astype(np.float32)}).reliable, "what all keys share"
    for place in PLACES:
        x = RNG.normal(0, 3, SHAPE)
        x[place] = 60.0  # its score with itself is 60^2 / 2
        assert not runner.run({"x": x.astype(np.float32)}).reliable


def test_a_client_sees_to_its_own_input() -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], name="checked")
    runner = MemoryModel(model([node]), at_client=False)
    x = RNG.normal(0, 3, SHAPE).astype(np.float32)
    plan = runner.plan({"x": x})
    assert plan.verdict is None
    assert not any(step.checks for step in plan.steps)
    check_values(plan, plan.client_values({"x": x}))
    x[1, 2, 3] = -1020
    assert not runner.run({"x": x}).reliable
    with pytest.raises(InputError, match=r"'x' holds a value of magnitude 1020; .* right below 10"):
        check_values(plan, plan.client_values({"x": x}))


def test_the_owner_may_go_without() -> None:
    runner, checked = MemoryModel(model([helper.make_node("Gelu", ["h"], ["y"])]), range_check=False), CASES
    plan = runner.plan({"x": np.zeros(SHAPE, np.float32)})
    assert plan.verdict is None
    assert runner.run({"x": np.full(SHAPE, 2000, np.float32)}).reliable, "nobody looked"
    other = checked["gelu of a product"][0].blueprint
    assert replace(other, checked=False).digest != other.digest


def test_it_is_part_of_what_is_agreed() -> None:
    blueprint: Blueprint = CASES["gelu of a product"][0].blueprint
    shapes = {"x": SHAPE}
    plans = [compile_plan(b, shapes) for b in (blueprint, replace(blueprint, checked=False))]
    assert plans[0].digest != plans[1].digest
    assert plans[0].verdict is not None
    assert plans[0].verdict not in plans[0].results
    assert plans[0].cost.rounds <= plans[1].cost.rounds + 6
