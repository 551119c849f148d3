"""The range check: a value that leaves its range, by a little or by far, is reported; others never are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxpuma.errors import InputError
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import Selection
from onnxpuma.roles.local.memory import MemoryModel, MemoryRun
from onnxpuma.roles.request.feed import check_values

RNG = np.random.default_rng(12)
SHAPE = (2, 6, 40)  # two batches of six rows


def model(nodes: Sequence[onnx.NodeProto], gain: float = 1.0, **weights: np.ndarray) -> onnx.ModelProto:
    """h = x W = gain x with a secret W, followed by the nodes."""
    weights["W"] = gain * np.eye(SHAPE[-1])
    first = helper.make_node("MatMul", ["x", "W"], ["h"], name="first")
    initializers = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)]
    made = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph([first, *nodes], "checked", given, made, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def one(op: str, inputs: Sequence[str] = ("h",), gain: float = 1.0, **attributes: Any) -> MemoryModel:
    node = helper.make_node(op, list(inputs), ["y"], name="checked", **attributes)
    weights = {"s": np.ones(SHAPE[-1]), "V": 100 * np.eye(SHAPE[-1])}
    return MemoryModel(model([node], gain, **{name: w for name, w in weights.items() if name in inputs}))


class Case(NamedTuple):
    """Values of `size` in a range that ends at `end`; h is `gain` times the client's input."""

    runner: MemoryModel
    size: float
    end: float
    gain: float = 1.0


CASES = {
    "layer normalisation": Case(one("LayerNormalization", ("h", "s"), 8), 100.0, 2.0**20, 8),
    "root mean square": Case(one("RMSNormalization", ("h", "s"), 8), 100.0, 2.0**20, 8),
    "softmax of a product": Case(one("Softmax"), 3.0, 8190.0),
    "exponential": Case(one("Exp"), 3.0, 29.8),
    "reciprocal": Case(one("Reciprocal", gain=2.0**6), 50.0, 2.0**24, 2.0**6),
    "logarithm": Case(one("Log"), 50.0, 0.0),
    "product with a weight": Case(one("MatMul", ("h", "V"), 8), 3.0, 2.0**26 / 100, 8),
    "product of two": Case(one("Mul", ("h", "h")), 3.0, 2.0**13),
}
PLACES = [(0, 0, 0), (0, -1, -1), (-1, -1, -1)]
KINDS = pytest.mark.parametrize("kind", CASES)


def drawn(kind: str) -> np.ndarray:
    """Random values in range; divisors and arguments of a logarithm stay away from zero."""
    x = RNG.normal(0, CASES[kind].size, SHAPE)
    if kind == "reciprocal":
        return np.sign(x) * np.maximum(np.abs(x), 1.0)
    return np.abs(x) + 0.1 if kind == "logarithm" else x


def run(kind: str, h: np.ndarray) -> MemoryRun:
    return CASES[kind].runner.run({"x": (h / CASES[kind].gain).astype(np.float32)})


@KINDS
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_one_value_out_of_its_range_is_told(kind: str, place: tuple[int, ...]) -> None:
    end = CASES[kind].end
    far = CASES[kind].gain * 2.0**20
    out = [1.05 * end + 12, -1.05 * end - 12, 0.99 * far, -0.99 * far]
    if kind == "exponential":
        out = [31.0, far / 2]
    elif kind == "reciprocal":
        out += [1.7e7]
    elif kind == "logarithm":
        out = [-0.001, -1.0, -far / 2]
    for value in out:
        h = drawn(kind)
        h[place] = value
        assert not run(kind, h).reliable, value


@KINDS
def test_values_in_their_range_are_not(kind: str) -> None:
    for number in range(6):
        h = drawn(kind)
        if number % 2 and CASES[kind].end:
            near = CASES[kind].end * (0.5 if "soft" in kind or "weight" in kind else 0.8)
            h[PLACES[number % 3]] = near * (1 if number < 3 or kind == "exponential" else -1)
        outcome = run(kind, h)
        assert outcome.reliable, number
        assert outcome.cost == outcome.plan.cost


@pytest.mark.parametrize("far", [2.0**21, -(2.0**30), 2.0**38, -(2.0**40)])
def test_what_is_far_out_does_not_come_round(far: float) -> None:
    """Large public factors reach magnitudes that products with weights do not."""
    far_out = helper.make_node("Mul", ["h", "c"], ["r"], name="far")
    norm = helper.make_node("LayerNormalization", ["r", "s"], ["y"], name="norm")
    runner = MemoryModel(model([far_out, norm], s=np.ones(40), c=np.array(2.0**20)))
    for place in PLACES:
        x = RNG.normal(0, 3, SHAPE)
        x[place] = far
        assert not runner.run({"x": (x * 2.0**-20).astype(np.float32)}).reliable
    assert runner.run({"x": (RNG.normal(0, 100, SHAPE) * 2.0**-20).astype(np.float32)}).reliable


def attention(offset: float = 0.0) -> MemoryModel:
    """Attention of queries h, keys h + offset and values h, ten heads of four; the offset is the weight z."""
    keys = helper.make_node("Add", ["h", "z"], ["k"], name="keys")
    node = helper.make_node("Attention", ["h", "k", "h"], ["y"], q_num_heads=10, kv_num_heads=10)
    return MemoryModel(model([keys, node], z=np.full(40, offset)))


@pytest.mark.parametrize("offset", [0.0, 200.0])
def test_scores_of_an_attention(offset: float) -> None:
    runner = attention(offset)
    for _ in range(5):
        assert runner.run({"x": RNG.normal(0, 3, SHAPE).astype(np.float32)}).reliable, (
            "a common part of all keys"
        )
    for place in PLACES:
        x = RNG.normal(0, 3, SHAPE)
        x[place] = 60.0  # its score with itself is 60^2 / 2
        assert not runner.run({"x": x.astype(np.float32)}).reliable


def test_a_client_sees_to_its_own_input() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], name="checked")
    runner = MemoryModel(model([node]), at_client=False)
    x = RNG.normal(0, 3, SHAPE).astype(np.float32)
    plan = runner.plan({"x": x})
    assert plan.verdict is None
    assert not any(step.checks for step in plan.steps)
    check_values(plan, plan.client_values({"x": x}))
    x[1, 2, 3] = -9000
    assert not runner.run({"x": x}).reliable
    with pytest.raises(
        InputError, match=r"'x' holds a row with values apart by 9.*; .* accurate only below 8190"
    ):
        check_values(plan, plan.client_values({"x": x}))


@pytest.mark.parametrize("op", ["Reciprocal", "Log"])
def test_zero_is_out_of_range_where_it_is_divided_by(op: str) -> None:
    runner = MemoryModel(model([helper.make_node(op, ["x"], ["y"], name="checked")]), at_client=False)
    x = np.full(SHAPE, 2.0, np.float32)
    assert runner.run({"x": x}).reliable
    x[1, 1, 1] = 0.0
    assert not runner.run({"x": x}).reliable


def test_a_quotient_of_two_values() -> None:
    parts = helper.make_node("Split", ["h"], ["a", "b"], axis=-1, num_outputs=2, name="parts")
    runner = MemoryModel(model([parts, helper.make_node("Div", ["a", "b"], ["y"], name="checked")]))
    for above, under, reliable in (
        (300, 1e-3, True),
        (-1100, 1e-3, False),
        (1100, -1e-3, False),
        (0, 5, True),
    ):
        x = RNG.normal(0, 3, SHAPE)
        x[..., 20:] = np.sign(x[..., 20:]) * np.maximum(np.abs(x[..., 20:]), 0.1)
        x[1, 2, 3], x[1, 2, 23] = above, under
        outcome = runner.run({"x": x.astype(np.float32)})
        assert outcome.reliable == reliable, (above, under)
        assert outcome.cost == outcome.plan.cost


def test_the_logarithm_of_a_product_ends_sooner() -> None:
    """It is read with 36 fraction bits, which leaves 2^25 before the point."""
    nodes = [
        helper.make_node("Mul", ["h", "h"], ["s"]),
        helper.make_node("Log", ["s"], ["y"], name="checked"),
    ]
    runner = MemoryModel(model(nodes))
    for size, reliable in ((5700.0, True), (6900.0, False)):
        x = np.full(SHAPE, 3.0)
        x[1, 2, 3] = size
        outcome = runner.run({"x": x.astype(np.float32)})
        assert outcome.reliable == reliable, size
        if reliable:
            assert np.abs(outcome.outputs["y"] - np.log(x * x)).max() < 1e-4
        assert outcome.cost == outcome.plan.cost


def test_a_quotient_of_a_weight() -> None:
    """What is divided is known to its owner, and the quotient to nobody."""
    held = helper.make_node("Div", ["w", "h"], ["y"], name="checked")
    runner = MemoryModel(model([held], w=RNG.normal(0, 3, SHAPE[-1]) + 1000))
    for under, reliable in ((0.1, True), (1e-3, False), (-1e-3, False)):
        x = np.full(SHAPE, 2.0)
        x[1, 2, 3] = under
        outcome = runner.run({"x": x.astype(np.float32)})
        assert outcome.reliable == reliable, under
        assert outcome.cost == outcome.plan.cost


def test_the_owner_may_go_without() -> None:
    runner = MemoryModel(model([helper.make_node("Softmax", ["h"], ["y"])]), range_check=False)
    x = np.zeros(SHAPE, np.float32)
    assert runner.plan({"x": x}).verdict is None
    x[0, 0, 0] = 20000
    assert runner.run({"x": x}).reliable, "nobody looked"


def test_what_is_kept_is_no_larger_than_what_is_shared() -> None:
    blueprint = MemoryModel(model([helper.make_node("Mul", ["h", "h"], ["y"])])).blueprint
    for selection, count in ((Selection(("y",)), 1), (Selection((), ("y",)), 2)):
        plan = compile_plan(blueprint, {"x": SHAPE}, selection=selection)
        looked_at = {o.name for s in plan.steps if s.checks for o in s.call.inputs if o and o.name in "hy"}
        assert len(looked_at) == count
        assert plan.verdict in plan.opened
        assert plan.verdict not in plan.kept


def test_it_is_part_of_what_is_agreed() -> None:
    blueprint = CASES["softmax of a product"].runner.blueprint
    without = replace(blueprint, checked=False)
    assert blueprint.digest != without.digest
    plans = [compile_plan(b, {"x": SHAPE}) for b in (blueprint, without)]
    assert plans[0].digest != plans[1].digest
    assert plans[0].verdict is not None
    assert plans[0].verdict not in plans[0].results
    assert plans[0].cost.rounds <= plans[1].cost.rounds + 6


def test_scores_beside_a_public_mask_are_no_mask() -> None:
    """Scores as low as a mask are told, and not taken for minus infinity."""
    text = """<ir_version: 10, opset_import: ["" : 23]> g (float[2, 3] x, float[3] m) => (float[2, 3] y)
    { s = Add(x, m) y = Softmax(s) }"""
    runner = MemoryModel(onnx.parser.parse_model(text), public_inputs=["m"], at_client=False)
    x = np.array([[1, 2, 3], [-1.4e6, 2, 3]], np.float32)
    masked = {"m": np.array([0, -np.inf, 0], np.float32)}
    assert not runner.run({"x": x, **masked}).reliable
    x[1, 0] = -100
    done = runner.run({"x": x, **masked})
    assert done.reliable
    assert (
        np.abs(done.outputs["y"][0] - [np.exp(-2) / (1 + np.exp(-2)), 0, 1 / (1 + np.exp(-2))]).max() < 1e-3
    )
