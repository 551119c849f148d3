"""Products that are computed doubled, and the bit that their other factor gives up for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.registry import Operand
from onnxpuma.plan import blueprint as blueprints
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import Step
from onnxpuma.roles.local.memory import MemoryModel

ROWS, WIDTH, BITS = 5, 64, 40
LENGTH = np.sqrt(WIDTH)  # of a row behind a norm of scale 1
X = np.random.default_rng(21).normal(0, 1, (ROWS, WIDTH)).astype(np.float32)


def model(bound: float) -> onnx.ModelProto:
    """A norm and a product whose elements reach up to `bound`, by Cauchy and Schwarz."""
    columns = np.random.default_rng(22).normal(size=(WIDTH, 8))
    w = columns / np.linalg.norm(columns, axis=0) * bound / LENGTH
    held = {"first": np.eye(WIDTH), "scale": np.ones(WIDTH), "w": w}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["x0"]),  # which the client cannot compute
        helper.make_node("RMSNormalization", ["x0", "scale"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "w"], ["a"], name="product"),
        helper.make_node("Gelu", ["a"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def room(reads: int) -> float:
    """The bound from which on a product whose other factor is read at `reads` bits is too large for 40."""
    return 2.0 ** (BITS - 2 - RESTING.fraction - reads)


def planned(bound: float, reads: int) -> tuple[Step, Operand]:
    """The product's step, and its weight, which is stored in 40 bits for a factor of `reads` bits."""
    whole = MemoryModel(model(bound)).blueprint
    narrow = replace(whole, rings={"w": BITS}, reads={"w": reads})
    plan = compile_plan(narrow, {"x": X.shape})
    (step,) = (step for step in plan.steps if step.call.node.name == "product")
    return step, step.call.given(1)


@pytest.fixture(params=[False, True], ids=["small model", "large model"])
def least(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The fewest bits to which a factor is lowered for a doubled product."""
    if request.param:
        monkeypatch.setattr(blueprints, "LARGE", 1)
    return 12 if request.param else 14


def test_with_room_for_a_bit_the_factor_keeps_all_of_its_own(least: int) -> None:
    for reads in (least, least + 1):
        step, weight = planned(0.4 * room(reads), reads)
        assert (weight.doubled, weight.reads) == (True, reads)
        assert step.call.outputs[0].fraction == RESTING.fraction + reads + 1


def test_without_room_the_factor_gives_up_one_bit(least: int) -> None:
    """The product has as many fraction bits as before, so it is in range exactly where it was."""
    step, weight = planned(0.8 * room(least + 1), least + 1)
    assert (weight.doubled, weight.reads) == (True, least)
    assert step.call.outputs[0].fraction == RESTING.fraction + least + 1
    assert step.call.outputs[0].bound.size < room(least + 1)


def test_no_factor_is_lowered_below_the_least(least: int) -> None:
    step, weight = planned(0.8 * room(least), least)
    assert (weight.doubled, weight.reads) == (False, least)
    assert step.call.outputs[0].fraction == RESTING.fraction + least


def test_only_a_large_model_reads_fewer_than_fourteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 0.8 * room(14)
    assert not planned(bound, 14)[1].doubled
    monkeypatch.setattr(blueprints, "LARGE", 1)
    assert planned(bound, 14)[1].doubled


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_factor_that_gave_up_a_bit_is_right_at_the_end_of_its_bound(sign: float) -> None:
    """A row parallel to a column of the weight has the largest product of all."""
    made = model(0.8 * room(15))
    (weight,) = (numpy_helper.to_array(i) for i in made.graph.initializer if i.name == "w")
    x = np.float32(sign) * weight.T[:ROWS]
    shared = MemoryModel(made, rings={"w": BITS})
    assert shared.blueprint.reads == {"w": 15}
    done = shared.run({"x": x})
    (step,) = (step for step in done.plan.steps if step.call.node.name == "product")
    assert (step.call.given(1).doubled, step.call.given(1).reads) == (True, 14)
    assert done.reliable
    assert done.cost == done.plan.cost
    (expected,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})
    assert step.call.outputs[0].bound.size < 1.25 * np.abs(expected).max() or sign < 0
    error = 2.0**-13 * np.abs(weight).sum(axis=0).max() + 2.0**-8
    assert np.abs(done.outputs["y"] - expected).max() < error
