"""Several requests in one run: each gets what it gets alone, in the rounds of one."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import local_keys
from onnxpuma.mpc.ring.words import decode
from onnxpuma.mpc.sharing import opened, outgoing
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.together.ends import Ends
from onnxpuma.plan.together.join import joint_plan, own_name
from onnxpuma.plan.together.layouts import LAYOUTS
from onnxpuma.roles.local.memory import MemoryModel, MemoryRun, _inputs
from onnxpuma.transport.memory import memory_links

Feed = Mapping[str, np.ndarray]
ROOT = Path(__file__).resolve().parents[2]


def run_together(
    interpreters: Sequence[Interpreter], plans: Sequence[Plan], feeds: Sequence[Feed]
) -> tuple[list[MemoryRun], Plan]:
    """Every request's result in a run of all of them, and the plan of that run."""
    joint = joint_plan(plans)
    known = [plan.client_values(feed) for plan, feed in zip(plans, feeds, strict=True)]
    inputs: list[dict[str, Any]] = [{}, {}, {}]
    for number, (plan, values) in enumerate(zip(plans, known, strict=True)):
        for party, held in enumerate(_inputs(plan, values)):
            inputs[party].update({own_name(name, number): value for name, value in held.items()})
    links, keys, session = memory_links(timeout=60.0), local_keys(), os.urandom(16)
    parties = [Party(links[i], keys[i], session) for i in range(3)]
    shares: list[dict[str, Any]] = [{}, {}, {}]

    def work(index: int) -> None:
        try:
            party = parties[index]
            made, _ = interpreters[index].run(joint, party, inputs[index])
            shares[index] = {o.name: outgoing(party, made[o.name], o.format) for o in joint.outputs}
        except BaseException:
            links[index].abort(session, "failed")
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cost = Cost(max(p.round for p in parties), 8 * sum(link.traffic.payload_sent for link in links))
    runs = []
    for number, plan in enumerate(plans):
        found = {}
        for output in plan.outputs:
            if output.secret:
                terms = [s[own_name(output.name, number)] for s in shares]
                words = opened([t.words for t in terms], terms[0].bits)
                found[output.name] = output.completed(decode(words, terms[0].fraction, terms[0].bits))
            else:
                found[output.name] = np.asarray(known[number][output.name])
        verdict = plan.verdict
        apart = None if verdict is None else found.pop(verdict.name)
        runs.append(MemoryRun(found, cost, plan, apart is None or not apart.any()))
    return runs, joint


def counts(plan: Plan) -> Counter[str]:
    return Counter(step.operator.name for step in plan.steps)


@pytest.fixture(scope="module")
def llama() -> MemoryModel:
    return MemoryModel(onnx.load(ROOT / "tests/benchmarks/llama/model.onnx"))


def tokens(length: int, past: int, seed: int) -> dict[str, np.ndarray]:
    """A request to the tiny LLaMA: `length` tokens after `past` others, whose cache is fed."""
    rng = np.random.default_rng(seed)
    feed: dict[str, np.ndarray] = {
        "input_ids": rng.integers(0, 512, (1, length)),
        "attention_mask": np.ones((1, past + length), np.int64),
        "position_ids": np.arange(past, past + length)[None],
    }
    for layer in range(2):
        for kind in ("key", "value"):
            feed[f"past_key_values.{layer}.{kind}"] = rng.normal(0, 1, (1, 2, past, 16)).astype(np.float32)
    return feed


def agree(model: MemoryModel, feeds: Sequence[Feed], wanted: Sequence[str]) -> tuple[list[Plan], Plan, Cost]:
    plans = [model.plan(feed, wanted) for feed in feeds]
    together, joint = run_together(model._interpreters, plans, feeds)
    for feed, run in zip(feeds, together, strict=True):
        alone = model.run(feed, wanted)
        assert run.reliable
        for name in wanted:
            assert run.outputs[name].shape == alone.outputs[name].shape
            assert np.abs(run.outputs[name] - alone.outputs[name]).max() < 2e-3, name
    assert together[0].cost == joint.cost
    return plans, joint, together[0].cost


@pytest.mark.parametrize(
    ("sizes", "attentions"),
    [
        ([(1, 6)] * 3, 2),  # tokens of generations that are equally far
        ([(1, 6), (1, 9), (1, 2)], 2),  # caches of different lengths are filled up for the attention
        ([(3, 0), (5, 0)], 4),  # prompts of different lengths: the first attention of each is its own
        ([(4, 0), (1, 6)], 4),  # a prompt beside a token
    ],
)
def test_generations_share_a_run(llama: MemoryModel, sizes: list[tuple[int, int]], attentions: int) -> None:
    feeds = [tokens(length, past, seed) for seed, (length, past) in enumerate(sizes)]
    plans, joint, cost = agree(llama, feeds, ["logits", "present.0.key"])
    assert cost.rounds <= max(plan.cost.rounds for plan in plans) * 1.1
    found = counts(joint)
    assert found["Attention"] == attentions


LIKELIEST = (1.0, 1.0, 1.0, 0.0, 1.0)  # a top-k of one, so that nothing is left to chance


@pytest.mark.parametrize(
    "steerings", [[LIKELIEST] * 2, [LIKELIEST, (0.5, 1.0, 0.9, 0.1, 1.0), (0.0, 0.0, 1.0, 0.0, 1.0)]]
)
def test_draws_are_one_step(llama: MemoryModel, steerings: list[tuple[float, ...]]) -> None:
    """With the same parameters for all requests, and with those of each."""
    feeds = [
        {**tokens(1, 6, seed), "sampling": np.array(steering, np.float32)}
        for seed, steering in enumerate(steerings)
    ]
    _, joint, _ = agree(llama, feeds, ["sampled_token"])
    assert counts(joint)["Sample"] == 1


def test_sixteen_generations_that_draw_differently_take_the_rounds_of_one(llama: MemoryModel) -> None:
    kinds = [(0, 1.0, 0.0), (5, 1.0, 0.0), (50, 0.8, 0.0), (0, 1.0, 0.05), (40, 1.0, 0.1), (0, 0.9, 0.0)]
    outputs = ["sampled_token", "shifted_token", "penalised_token", "next_token"]
    plans, feeds = [], []
    for place in range(16):
        top_k, top_p, min_p = kinds[place % len(kinds)]
        steering = (0.5 + 0.1 * place, top_k + place * bool(top_k), top_p, min_p, 1.1)
        feed = {**tokens(1, 3 + place % 5, place), "sampling": np.array(steering, np.float32)}
        vocabulary = np.zeros((1, 1, 512), np.float32)
        feeds.append(feed | {"logit_shift": vocabulary, "repeated_ids": vocabulary})
        plans.append(llama.plan(feeds[-1], [outputs[place % len(outputs)]]))
    runs, joint = run_together(llama._interpreters, plans, feeds)
    assert runs[0].cost == joint.cost
    assert joint.cost.rounds <= 1.5 * max(plan.cost.rounds for plan in plans)
    drawn = [plan.outputs[0].name for plan in plans]
    assert all(0 <= int(run.outputs[name].item()) < 512 for run, name in zip(runs, drawn, strict=True))


def test_a_value_out_of_range_is_told_of_its_own_request(llama: MemoryModel) -> None:
    """The verdict of each request is its own, and tells nothing of the others."""
    feeds = [tokens(1, 6, seed) for seed in range(3)]
    feeds[1]["past_key_values.0.key"] *= 40000.0
    plans = [llama.plan(feed, ["next_token"]) for feed in feeds]
    assert all(plan.verdict is not None for plan in plans)
    runs, joint = run_together(llama._interpreters, plans, feeds)
    assert [run.reliable for run in runs] == [True, False, True]
    assert counts(joint)["RangeCheck"] == 3


def test_the_range_checks_of_two_requests_draw_different_numbers(llama: MemoryModel) -> None:
    plans = [llama.plan(tokens(1, 6, 0), ["next_token"])] * 2
    names = [step.call.node.name for step in joint_plan(plans).steps if step.checks]
    assert len(set(names)) == len(names)


def graph_of(nodes: Sequence[Any], inputs: Mapping[str, Sequence[Any]], **weights: np.ndarray) -> MemoryModel:
    """A model of these nodes, whose one output is `y`."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return MemoryModel(model, at_client=False, rewrite=False)


RNG = np.random.default_rng(7)
WEIGHT = RNG.normal(0, 1, (4, 4)).astype(np.float32)
FILTER = RNG.normal(0, 1, (3, 2, 3, 3)).astype(np.float32)
AXIS0, AXIS1 = np.array([0]), np.array([1])


@pytest.mark.parametrize(
    ("nodes", "shape", "fused"),
    [
        # rows do not mix: one step
        ([("MatMul", ["x", "w"], {})], (1, 3, 4), True),
        ([("Softmax", ["x"], {"axis": -1})], (1, 3, 4), True),
        ([("Transpose", ["x"], {"perm": [1, 0, 2]}), ("MatMul", ["0", "w"], {})], (1, 3, 4), True),
        ([("Reshape", ["x", "flat"], {}), ("MatMul", ["0", "w"], {})], (1, 3, 4), True),
        ([("ReduceMean", ["x"], {"axes": [1]})], (1, 3, 4), True),
        ([("Conv", ["x", "f"], {})], (1, 2, 5, 5), True),
        ([("Slice", ["x", "from", "to", "one"], {})], (1, 3, 4), True),
        # along the first axis rows mix: the requests lie along another one
        ([("Softmax", ["x"], {"axis": 0})], (2, 3, 4), True),
        ([("ReduceMean", ["x"], {"axes": [0]})], (2, 3, 4), True),
        # there is no other axis: a step for each request
        ([("Softmax", ["x"], {"axis": 0})], (5,), False),
        ([("ReduceMean", ["x"], {"axes": [0]})], (5,), False),
        ([("CumSum", ["x", "zero"], {})], (5,), False),
        ([("Slice", ["x", "from", "to", "zeros"], {})], (5,), False),
        ([("Transpose", ["x"], {"perm": [1, 0]}), ("MatMul", ["0", "x"], {})], (3, 4), False),
    ],
)
def test_rows_of_requests_never_mix(
    nodes: list[tuple[str, list[str], dict[str, Any]]], shape: tuple[int, ...], fused: bool
) -> None:
    """Each request gets what it gets alone, and what may be computed at once is."""
    made = [
        helper.make_node(op, inputs, ["y" if place == len(nodes) - 1 else str(place)], **attributes)
        for place, (op, inputs, attributes) in enumerate(nodes)
    ]
    constants = {
        "w": WEIGHT, "f": FILTER, "flat": np.array([-1, 4]), "from": np.array([1]), "to": np.array([2]),
        "one": AXIS1, "zero": np.array(0), "zeros": AXIS0,
    }  # fmt: skip
    used = {name for _, inputs, _ in nodes for name in inputs}
    model = graph_of(made, {"x": [None] * len(shape)}, **{n: v for n, v in constants.items() if n in used})
    feeds = [{"x": RNG.normal(0, 1, shape).astype(np.float32)} for _ in range(3)]
    plans = [model.plan(feed) for feed in feeds]
    runs, joint = run_together(model._interpreters, plans, feeds)
    for feed, run in zip(feeds, runs, strict=True):
        assert np.abs(run.outputs["y"] - model.run(feed).outputs["y"]).max() < 1e-3
    last = nodes[-1][0]
    assert counts(joint)[last] == (1 if fused else 3)


def test_places_of_a_pool_count_through_the_images_of_one_request() -> None:
    node = helper.make_node("MaxPool", ["x"], ["largest", "y"], kernel_shape=[2, 2])
    model = graph_of([node], {"x": [None, 1, 4, 4]})
    feeds = [{"x": RNG.normal(0, 1, (2, 1, 4, 4)).astype(np.float32)} for _ in range(2)]
    plans = [model.plan(feed) for feed in feeds]
    runs, _ = run_together(model._interpreters, plans, feeds)
    for feed, run in zip(feeds, runs, strict=True):
        assert np.array_equal(run.outputs["y"], model.run(feed).outputs["y"])


def test_a_public_value_that_differs_keeps_a_step_apart() -> None:
    """The masks of two requests are added to scores of one shape: they lie end to end too."""
    model = MemoryModel(onnx.load(ROOT / "tests/benchmarks/llama/model.onnx"))
    feeds = [tokens(1, 6, seed) for seed in range(2)]
    feeds[0]["attention_mask"][0, :3] = 0
    feeds[0]["position_ids"] -= 3
    agree(model, feeds, ["logits"])


def test_suppressed_ids_of_one_request_do_not_reach_another(llama: MemoryModel) -> None:
    feeds = [tokens(1, 6, 3) for _ in range(2)]
    free = llama.run(feeds[0], ["next_token"]).outputs["next_token"]
    feeds[1]["suppressed_ids"] = free.reshape(-1)
    plans = [llama.plan(feed, ["next_token"]) for feed in feeds]
    runs, _ = run_together(llama._interpreters, plans, feeds)
    assert runs[0].outputs["next_token"] == free
    assert runs[1].outputs["next_token"] != free


def test_a_rule_that_mixes_rows_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: sums that run on from one request into the next are others."""
    monkeypatch.setitem(LAYOUTS, "CumSum", lambda call, axis, given: Ends({0: axis}))
    node = helper.make_node("CumSum", ["x", "zero"], ["y"])
    model = graph_of([node], {"x": [None]}, zero=np.array(0))
    feeds = [{"x": np.full(4, 1.0 + place, np.float32)} for place in range(2)]
    plans = [model.plan(feed) for feed in feeds]
    (first, second), _ = run_together(model._interpreters, plans, feeds)
    assert np.abs(first.outputs["y"] - [1, 2, 3, 4]).max() < 1e-3
    assert np.abs(second.outputs["y"] - [6, 8, 10, 12]).max() < 1e-3
