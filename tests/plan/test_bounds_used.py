"""What bounds are for: kernels read no further, and a model is proved to stay within its rings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from onnxpuma.errors import InputError
from onnxpuma.mpc.cost import Network
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.declared import declare_all
from onnxpuma.plan.examine.proofs import examined
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.request.feed import check_feed
from tests.plan.bounded import SHAPE, Chain, made, normalise

MODELS = Path(__file__).parents[2] / "models"


def test_kernels_read_no_further_than_is_proved() -> None:
    rng = np.random.default_rng(0)
    chain = Chain(rng)
    normalise(chain)
    chain.add("Gelu", chain.add("MatMul", chain.last, chain.weight(24, 24, size=0.2)))
    blueprint, _ = made(chain.nodes, chain.weights)
    blind = replace(blueprint, facts={})
    bytes_alone = Network(latency=0.0)
    plans = [compile_plan(b, {"x": SHAPE}, network=bytes_alone) for b in (blueprint, blind)]
    cost, usual = (plan.cost.bytes for plan in plans)
    assert cost < 0.9 * usual


def test_transformers_are_proved() -> None:
    blueprint, _ = prepare(MODELS / "tales" / "model.onnx")
    shapes = {name: (1, 20) for name in blueprint.inputs if name == "input_ids"}
    shapes |= {n: s.default.shape for n, s in blueprint.inputs.items() if s.default is not None}
    shapes |= {n: (1, 20) for n in blueprint.inputs if n not in shapes}
    public = {n: np.ones(shapes[n], blueprint.inputs[n].dtype) for n in blueprint.public_inputs}
    found = examined(blueprint, shapes, public)
    assert found.readings > 80
    assert found.proved == found.readings


def test_a_declared_range_proves_more_and_is_refused_beyond() -> None:
    blueprint, _ = prepare(MODELS / "digits" / "model.onnx")
    (name,) = blueprint.inputs
    shape = tuple(d if isinstance(d, int) else 1 for d in blueprint.inputs[name].shape)
    before = examined(blueprint, {name: shape}, {})
    assert before.states["checked"] > 0
    assert before.undeclared == [name]
    declared = declare_all(blueprint, {name: (0.0, 1.0)})
    assert declared.digest != blueprint.digest
    after = examined(declared, {name: shape}, {})
    assert after.proved == after.readings == before.with_ranges
    check_feed(declared, {name: np.ones(shape)})
    with pytest.raises(InputError, match=r"holds 16; the model's owner says that it lies between 0 and 1"):
        check_feed(declared, {name: np.full(shape, 16.0)})


def test_what_is_asked_of_factors_is_enough() -> None:
    """Rows have exactly the required length, in the direction of the longest column."""
    w = np.random.default_rng(5).normal(size=(24, 7))
    blueprint, _ = made([helper.make_node("MatMul", ["x", "w"], ["y"], name="p")], {"w": w})
    plan = compile_plan(blueprint, {"x": SHAPE})
    (need,) = plan.inputs[0].needs
    column = w[:, np.linalg.norm(w, axis=0).argmax()]
    x = np.broadcast_to(need.below * column / np.linalg.norm(column), SHAPE)
    assert 2.0**25 < np.abs(x @ w).max() < 2.0**26
