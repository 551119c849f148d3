"""A gated layer's product reads the activation as terms: fewer rounds, and the same result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.plan import compile as compiling
from onnxpuma.plan.examine.choices import ways_taken
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.roles.local.memory import MemoryModel

RNG = np.random.default_rng(31)
ROWS, WIDTH, INNER = 5, 32, 48
X = RNG.normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
USUAL, FAR = Network(), Network(1e10, 0.04)


def gated(
    activation: str = "Swish", size: float = 1.0, order: Sequence[str] = ("s", "u"), more: Sequence[str] = ()
) -> onnx.ModelProto:
    """A gated layer as in a Llama between two norms, and outputs `y` and `more`. size: of the weights."""
    nodes = [
        helper.make_node("RMSNormalization", ["x", "scale"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "w1"], ["h"]),
        helper.make_node(activation, ["h"], ["s"], name="activation"),
        helper.make_node("MatMul", ["n", "w3"], ["u"]),
        helper.make_node("Mul", list(order), ["g"], name="product"),
        helper.make_node("MatMul", ["g", "w2"], ["z"]),
        helper.make_node("Add", ["z", "n"], ["r"]),
        helper.make_node("RMSNormalization", ["r", "scale"], ["y"], axis=-1),
    ]
    held = {
        "scale": np.ones(WIDTH),
        **{n: RNG.normal(0, size * WIDTH**-0.5, (WIDTH, INNER)) for n in ("w1", "w3")},
    }
    held["w2"] = RNG.normal(0, INNER**-0.5, (INNER, WIDTH))
    shapes = {"y": WIDTH, "s": INNER, "g": INNER}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (ROWS, shapes[n])) for n in ("y", *more)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def run(model: onnx.ModelProto, tolerance: float, network: Network = USUAL) -> Plan:
    """On shares: close to onnxruntime, in range, and at the declared cost."""
    outcome = MemoryModel(model, at_client=False, network=network).run({"x": X})
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    assert outcome.reliable
    assert outcome.cost == outcome.plan.cost
    for got, true in zip(outcome.outputs.values(), want, strict=True):
        assert np.abs(got - true).max() <= tolerance * max(1.0, float(np.abs(true).max()))
    return outcome.plan


def step(plan: Plan, node: str) -> Step:
    return next(step for step in plan.steps if step.call.node.name == node)


def reads_terms(plan: Plan) -> bool:
    made, read = step(plan, "activation").call.outputs[0], step(plan, "product").call.secrets
    assert (made.form is Sum3) == any(o.form is Sum3 for o in read)
    return made.form is Sum3


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every product reads values at rest."""
    monkeypatch.setattr(compiling, "with_terms", lambda state, decisions=None: None)
    return monkeypatch


@pytest.mark.parametrize("activation", ["Swish", "Gelu", "Softplus", "Mish"])
@pytest.mark.parametrize("order", [("s", "u"), ("u", "s")])
def test_close_to_the_model_at_the_declared_cost(activation: str, order: tuple[str, str]) -> None:
    plan = run(gated(activation, order=order), 3e-3)
    assert reads_terms(plan)
    assert step(plan, "product").call.outputs[0].form is Replicated


@pytest.mark.parametrize(("network", "saved"), [(USUAL, 1), (FAR, 1)])
def test_rounds_that_it_saves(network: Network, saved: int, without: pytest.MonkeyPatch) -> None:
    model = gated()
    apart = run(model, 3e-3, network)
    without.undo()
    plan = run(model, 3e-3, network)
    assert not reads_terms(apart)
    assert reads_terms(plan)
    assert apart.cost.rounds - plan.cost.rounds >= saved
    assert network.seconds(plan.cost) < network.seconds(apart.cost)


@pytest.mark.parametrize("size", [0.1, 4.0, 16.0])
def test_weights_of_any_size(size: float) -> None:
    run(gated(size=size), 3e-3)


def test_the_ring_of_the_product_is_a_choice() -> None:
    ways = ways_taken(MemoryModel(gated(), at_client=False).plan({"x": X}))["Mul"]
    assert sum(ways.values()) == 1


def test_not_without_a_bound(without: pytest.MonkeyPatch) -> None:
    model = gated(size=2.0**24)
    plan = MemoryModel(model, at_client=False).plan({"x": X})
    without.undo()
    assert not reads_terms(MemoryModel(model, at_client=False).plan({"x": X}))
    assert not reads_terms(plan)


@pytest.mark.parametrize("more", ["s", "g"])
def test_a_value_that_the_client_opens_is_right(more: str) -> None:
    """The activation itself, which then is no product's alone; the product."""
    assert reads_terms(run(gated(more=(more,)), 3e-3)) == (more == "g")


def test_the_plan_before_helps_the_next() -> None:
    model, recall = MemoryModel(gated(), at_client=False), Recall()
    first, again, anew = (
        compiling.compile_plan(model.blueprint, {"x": X.shape}, at_client=False, recall=r)
        for r in (recall, recall, None)
    )
    assert first.digest == again.digest == anew.digest
    for name in ("activation", "product"):
        assert step(first, name) is step(again, name)
