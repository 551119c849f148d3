"""A report names every choice of a plan, and prices the whole model with each way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from onnxpuma.mpc.cost import USUAL, Cost, Network
from onnxpuma.ops import registry
from onnxpuma.ops.registry import Call
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.choices import choices
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.prepare import prepare

MODEL = Path(__file__).resolve().parents[2] / "models" / "breast-cancer" / "model.onnx"
FAR = Network(1e10, 0.04)
WAYS = {"few bytes": Cost(9, 8_000), "few rounds": Cost(2, 8_000_000)}


@pytest.fixture(autouse=True)
def chosen() -> Iterator[None]:
    """LayerNormalization has two ways."""

    def cost(call: Call) -> Cost:
        return WAYS[call.network.fastest(WAYS)]

    with pytest.MonkeyPatch.context() as patch:
        own = registry.operators()["LayerNormalization"]
        patch.setitem(registry._OPERATORS, "LayerNormalization", replace(own, cost=cost))
        yield


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    return prepare(MODEL)[0]


def planned(blueprint: Blueprint, network: Network) -> Plan:
    return compile_plan(blueprint, {"measurements": (1, 30)}, {}, network=network)


@pytest.mark.parametrize(("network", "way"), [(USUAL, "few bytes"), (FAR, "few rounds")])
def test_a_choice_tells_the_way_taken_and_what_each_would_cost(blueprint, network: Network, way: str):
    plan = planned(blueprint, network)
    (choice,) = [c for c in choices(plan) if tuple(w.name for w in c.ways) == tuple(WAYS)]
    steps = sum(step.operator.name == "LayerNormalization" for step in plan.steps)
    taken = {entry.name: entry for entry in choice.ways}
    assert choice.operator == "LayerNormalization"
    assert {n: entry.steps for n, entry in taken.items()} == {name: steps * (name == way) for name in WAYS}
    assert taken[way].rounds == steps * WAYS[way].rounds
    assert taken[way].bytes == steps * WAYS[way].bytes
    assert (taken[way].model_rounds, taken[way].model_bytes) == (plan.cost.rounds, round(plan.cost.bytes))
    assert taken[way].model_seconds == network.seconds(plan.cost)
    assert taken[way].model_seconds == min(entry.model_seconds for entry in choice.ways)


def test_the_whole_model_is_priced_with_the_way_not_taken(blueprint):
    plan = planned(blueprint, USUAL)
    other = {w.name: w for choice in choices(plan) for w in choice.ways}["few rounds"]
    apart = WAYS["few rounds"], WAYS["few bytes"]
    steps = sum(step.operator.name == "LayerNormalization" for step in plan.steps)
    saved = plan.cost.rounds - other.model_rounds  # less where another path becomes the longest
    assert steps < saved <= steps * (apart[1].rounds - apart[0].rounds)
    assert other.model_bytes == round(plan.cost.bytes + steps * (apart[0].bytes - apart[1].bytes))
    assert other.model_seconds > USUAL.seconds(plan.cost)


def test_the_network_is_a_part_of_the_digest(blueprint):
    digests = {planned(blueprint, network).digest for network in (USUAL, FAR, Network(1e9, 0.04))}
    assert len(digests) == 3
    assert planned(blueprint, Network()).digest == planned(blueprint, USUAL).digest
