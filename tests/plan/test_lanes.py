"""Plans in lanes: the same results, bytes and rounds as declared, and only where lanes gain something."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from weakref import ref

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxpuma.mpc.cost import Network
from onnxpuma.plan.lanes import lanes
from onnxpuma.plan.lanes.lanes import cost_in_lanes, in_lanes, lanes_of, links_seconds
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.local.memory import MemoryModel
from tests.plan.conftest import model_of
from tests.plan.test_together import run_together

FAR = Network(bandwidth=1e7, latency=0.02)
WIDTH, HEADS = 8, 2
RNG = np.random.default_rng(5)


def reals(*shape: int, scale: float = 1.0) -> np.ndarray:
    return RNG.normal(0, scale, shape).astype(np.float32)


def layer(causal: int = 0) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """A Transformer's layer over `x`, (1, rows, WIDTH)."""
    nodes = [helper.make_node("LayerNormalization", ["x", "scale"], ["n"], axis=-1)]
    for each in "qkv":
        nodes += [
            helper.make_node("MatMul", ["n", f"w{each}"], [f"{each}0"]),
            helper.make_node("Reshape", [f"{each}0", "apart"], [f"{each}1"]),
            helper.make_node("Transpose", [f"{each}1"], [each], perm=[0, 2, 1, 3]),
        ]
    nodes += [
        helper.make_node("Attention", ["q", "k", "v"], ["a0"], is_causal=causal),
        helper.make_node("Transpose", ["a0"], ["a1"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["a1", "again"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["h"]),
        helper.make_node("MatMul", ["h", "up"], ["u"]),
        helper.make_node("Gelu", ["u"], ["g"]),
        helper.make_node("MatMul", ["g", "down"], ["d"]),
        helper.make_node("Add", ["d", "h"], ["y"]),
    ]
    constants: dict[str, np.ndarray] = {
        **{f"w{each}": reals(WIDTH, WIDTH, scale=0.4) for each in "qkv"},
        "scale": np.ones(WIDTH, np.float32),
        "up": reals(WIDTH, 16, scale=0.4),
        "down": reals(16, WIDTH, scale=0.4),
        "apart": np.array([0, -1, HEADS, WIDTH // HEADS]),
        "again": np.array([0, -1, WIDTH]),
    }
    return nodes, constants


def planned(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    feed: dict[str, np.ndarray],
    network: Network = FAR,
) -> tuple[MemoryModel, Plan, np.ndarray]:
    """A model, its plan, and what onnxruntime computes."""
    made, want = model_of(nodes, constants, feed)
    model = MemoryModel(made, at_client=False, network=network)
    return model, model.plan(feed), want


def cut(plan: Plan) -> set[str]:
    """The operators that run in lanes."""
    return {step.operator.name for step in in_lanes(plan).steps if step.lane is not None}


@pytest.mark.parametrize("rows", [64, 77])
def test_a_layer_is_computed_in_lanes(rows: int) -> None:
    feed = {"x": reals(1, rows, WIDTH)}
    model, plan, want = planned(*layer(), feed)
    assert lanes_of(in_lanes(plan)) == 2
    assert {"LayerNormalization", "MatMul", "Attention", "Gelu"} <= cut(plan)
    ran = model.run(feed)
    assert ran.cost == cost_in_lanes(plan)
    assert plan.cost.rounds <= ran.cost.rounds <= lanes.LATER * plan.cost.rounds
    assert np.abs(ran.outputs["y"] - want).max() < 6e-3


def test_queries_that_depend_on_their_place_stay_together() -> None:
    feed = {"x": reals(1, 64, WIDTH)}
    model, plan, want = planned(*layer(causal=1), feed)
    assert "Gelu" in cut(plan)
    assert "Attention" not in cut(plan)
    assert np.abs(model.run(feed).outputs["y"] - want).max() < 6e-3


def test_a_value_that_is_cut_in_two_ways() -> None:
    nodes = [
        helper.make_node("Gelu", ["x"], ["g"]),
        helper.make_node("Softmax", ["g"], ["down"], axis=0),
        helper.make_node("Softmax", ["g"], ["across"], axis=1),
        helper.make_node("Softmax", ["down"], ["again"], axis=0),
        helper.make_node("Mul", ["again", "across"], ["y"]),
    ]
    feed = {"x": reals(64, 64)}
    model, plan, want = planned(nodes, {}, feed)
    made = [name for step in in_lanes(plan).steps for name in step.outputs]
    assert len(made) == len(set(made))
    ran = model.run(feed)
    assert ran.cost == cost_in_lanes(plan)
    assert np.abs(ran.outputs["y"] - want).max() < 1e-3


def test_requests_that_are_computed_together() -> None:
    feeds = [{"x": reals(1, 64, WIDTH)} for _ in range(2)]
    model, plan, _ = planned(*layer(), feeds[0])
    alone = [model.run(feed).outputs["y"] for feed in feeds]
    runs, joint = run_together(model._interpreters, [plan, plan], feeds)
    assert lanes_of(in_lanes(joint)) == 2
    for run, own in zip(runs, alone, strict=True):
        assert np.abs(run.outputs["y"] - own).max() < 6e-3


@pytest.mark.parametrize(
    ("rows", "network"),
    [(63, FAR), (64, replace(FAR, latency=1e-3)), (64, replace(FAR, bandwidth=1e12))],
)
def test_where_lanes_gain_nothing(rows: int, network: Network) -> None:
    _, plan, _ = planned(*layer(), {"x": reals(1, rows, WIDTH)}, network)
    assert in_lanes(plan) is plan
    assert cost_in_lanes(plan) == plan.cost
    assert links_seconds(plan, network, 1.0) == network.seconds(plan.cost)


@pytest.mark.parametrize("rows", [63, 64])
def test_a_plan_is_freed_with_its_last_user(rows: int) -> None:
    _, plan, _ = planned(*layer(), {"x": reals(1, rows, WIDTH)})
    assert (in_lanes(plan) is plan) == (rows == 63)
    seen = ref(plan)
    del plan
    gc.collect()
    assert seen() is None


def test_a_plan_for_short_links_is_not_priced() -> None:
    _, plan, _ = planned(*layer(), {"x": reals(1, 64, WIDTH)}, replace(FAR, latency=1e-3))
    assert in_lanes(plan) is plan
    assert "cost" not in plan.__dict__


def test_large_models_read_each_weight_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "WEIGHTS", 100)
    _, plan, _ = planned(*layer(), {"x": reals(1, 64, WIDTH)})
    assert in_lanes(plan) is plan


def test_links_wait_for_rounds_and_for_words_that_computing_does_not_hide() -> None:
    _, plan, _ = planned(*layer(), {"x": reals(1, 64, WIDTH)})
    rounds = FAR.latency * cost_in_lanes(plan).rounds
    travel = cost_in_lanes(plan).bits / 3 / FAR.bandwidth
    assert links_seconds(plan, FAR, 100.0) == pytest.approx(rounds)
    assert links_seconds(plan, FAR, 0.0) == pytest.approx(rounds + travel)
    assert links_seconds(plan, FAR, travel / 4) == pytest.approx(rounds + 0.75 * travel)
