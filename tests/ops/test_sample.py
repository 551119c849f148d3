"""Sample: draws from the softmax of a row, after temperature, top-k, top-p and min-p, on shares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.sharing import opened
from onnxpuma.ops import sample, sample_order
from onnxpuma.ops.sample_filters import BITS, FRACTION, WINDOW
from onnxpuma.ops.sample_order import Ordered, drawn_cost
from onnxpuma.ops.sample_reading import parts
from onnxpuma.ops.sample_steering import Setting, Steering
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.tasks.plain_draw import probabilities

IDS = 12
SCORES = np.array([2.0, -1.3, 0.4, 3.1, 3.0, -4.0, 1.1, 0.0, -0.2, 2.5, 0.9, -2.2], np.float32)
FAR = Network(latency=0.05)
EDGE = 2.0**-8  # what lies this far from a threshold is on its side, in units of the temperature


def model(ids: int = IDS, beside: np.ndarray | None = None, **wishes: Any) -> MemoryModel:
    """Rows of secret scores; `beside`: public numbers that are added to them."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("onnxpuma", 1)]
    nodes, more, read = [], [], "x"
    if beside is not None:
        nodes, read = [helper.make_node("Add", ["x", "beside"], ["s"])], "s"
        more = [helper.make_tensor_value_info("beside", TensorProto.FLOAT, [ids])]
    nodes.append(helper.make_node("Sample", [read, "sampling"], ["y"], domain="onnxpuma"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", ids]),
        helper.make_tensor_value_info("sampling", TensorProto.FLOAT, ["m"]),
        *more,
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])]
    proto = helper.make_model(
        helper.make_graph(nodes, "draw", inputs, outputs), opset_imports=opsets, ir_version=9
    )
    seen = ["sampling", *(one.name for one in more)]
    usual = {"rewrite": False, "at_client": False, "public_inputs": seen, "range_check": False}
    return MemoryModel(proto, **{**usual, **wishes})


def draws(
    scores: np.ndarray,
    count: int,
    steering: tuple[float, ...],
    beside: np.ndarray | None = None,
    **wishes: Any,
) -> np.ndarray:
    """How often each id was drawn from these scores; the declared cost is the counted one."""
    feed = {"x": np.tile(scores, (count, 1)), "sampling": np.array([*steering, 1], np.float32)}
    if beside is not None:
        feed["beside"] = beside.astype(np.float32)
    done = model(len(scores), beside, **wishes).run(feed, ["y"])
    assert done.cost == done.plan.cost
    return np.bincount(done.outputs["y"], minlength=len(scores))


def passing(scores: np.ndarray, steering: tuple[float, ...], lower: float) -> np.ndarray:
    """Which scores pass the filters if thresholds lie that much lower, in units of the temperature."""
    temperature, top_k, top_p, min_p = steering
    y = (scores.astype(np.float64) - scores.max()) / (temperature or 1e-9)
    passes, above = y > -np.inf, y > y[:, None] + lower
    np.fill_diagonal(above, False)
    if 0 < top_k < len(y):
        passes &= above.sum(1) < top_k
    if top_p < 1:
        weights = np.where(passes, np.exp(y), 0.0)
        before = above @ weights
        passes &= before < top_p * (before + (weights.sum() - before) * math.exp(lower))
    if min_p:
        passes &= y >= math.log(min_p) - lower
    return passes


def fits(counts: np.ndarray, scores: np.ndarray, steering: tuple[float, ...]) -> bool:
    """Chi-square at 1e-9: one run of this file in a million misses it by chance. Nothing is drawn that cannot
    be. No score may lie where rounding decides whether it passes."""
    assert (passing(scores, steering, EDGE) == passing(scores, steering, -EDGE)).all()
    expected = probabilities(scores, np.array(steering))
    assert counts[expected == 0].sum() == 0
    often = expected * counts.sum() > 5
    seen, due = counts[often], expected[often] * counts.sum()
    if len(seen) < 2:
        return bool(seen.sum() >= counts.sum() - 20)
    chi = float(((seen - due) ** 2 / due).sum())
    return bool(stats.chi2.sf(chi, len(seen) - 1) > 1e-9)


STEERINGS = [
    (1.0, 0, 1, 0),
    (0.5, 0, 1, 0),
    (4.0, 0, 1, 0),
    (0.05, 0, 1, 0),
    (1.0, 4, 1, 0),
    (0.3, 5, 0.9, 0),
    (2.0, 6, 1, 0.3),
    (1.0, 0, 0.7, 0),
    (0.8, 0, 1, 0.1),
    (1.5, 8, 0.85, 0.1),
]


@pytest.mark.parametrize("steering", STEERINGS)
def test_ids_are_drawn_as_in_the_clear(steering: tuple[float, ...]) -> None:
    assert fits(draws(SCORES, 3000, steering), SCORES, steering)


SEVERAL = [
    [(0.6, 0, 1, 0), (2.0, 0, 1, 0), (0.0, 0, 1, 0)],  # one part, with a largest among draws
    [(0.6, 3, 1, 0), (1.5, 2, 1, 0), (1.0, 3, 0.5, 0), (0.9, 2, 0.9, 0)],  # two, with several top-k in each
    [(0.6, 0, 0.6, 0), (1.5, 0, 0.9, 0), (0.7, 4, 1, 0.2), (1.2, 5, 1, 0.45)],
    [(0.6, 0, 1, 0.2), (1.5, 0, 1, 0.05), (0.01, 0, 1, 0), (100.0, 0, 1, 0), (1.0, 8, 0.8, 0.1)],
]


@pytest.mark.parametrize("steerings", SEVERAL)
def test_rows_of_one_run_have_settings_of_their_own(steerings: list[tuple[float, ...]]) -> None:
    count = 500
    x = np.tile(SCORES, (count * len(steerings), 1))
    given = np.array([(*steering, 1) for steering in steerings], np.float32).reshape(-1)
    done = model().run({"x": x, "sampling": given}, ["y"])
    assert done.cost == done.plan.cost
    for steering, ids in zip(steerings, done.outputs["y"].reshape(len(steerings), count), strict=True):
        assert fits(np.bincount(ids, minlength=IDS), SCORES, steering)


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.7, 97.0])
def test_scores_close_to_a_threshold(temperature: float) -> None:
    """Just beyond what rounding may move, half of them above it and half below."""
    close = np.where(np.arange(IDS) < IDS // 2, 1.01 * EDGE, -1.01 * EDGE)
    least = np.where(np.arange(IDS) > 0, math.log(0.4) + close, 0.0)
    many, one = np.array([0.0, -1.0, *[-2.0] * 9, -20.0]), np.array([0.0, -1.0, -2.0, *[-6.0] * 8, -20.0])
    out, kept = (probabilities(y, np.array((1, 0, 1, 0)))[:2].sum() for y in (many, one))
    out, kept = out - out * (1 - out) * 1.01 * EDGE, kept + kept * (1 - kept) * 1.01 * EDGE
    cases = [
        (least, (temperature, 0, 1, 0.4)),
        (least, (temperature, 10, 1, 0.4)),
        (least, (temperature, 10, 0.99, 0.4)),
        (least, (temperature, 0, 0.999, 0.4)),
        (close / 2, (temperature, IDS // 2, 1, 0)),
        (many, (temperature, 0, out, 0)),
        (many, (temperature, IDS - 1, out, 0)),
        (one, (temperature, 0, kept, 0)),
        (one, (temperature, IDS - 1, kept, 0)),
    ]
    count = 150
    rows = [(temperature * y).astype(np.float32) for y, _ in cases]
    given = np.array([(*steering, 1) for _, steering in cases], np.float32).reshape(-1)
    done = model().run({"x": np.repeat(rows, count, axis=0), "sampling": given}, ["y"])
    assert done.cost == done.plan.cost
    drawn = done.outputs["y"].reshape(len(cases), count)
    for row, (_, steering), ids in zip(rows, cases, drawn, strict=True):
        assert fits(np.bincount(ids, minlength=IDS), row, steering)


def test_rows_of_several_top_k_are_drawn_from_together() -> None:
    """By thresholds and in order; a top-k that is far larger is not."""
    each = [(1.0, 5, 1, 0, 1), (0.7, 6, 1, 0, 1), (1.3, 4, 1, 0, 1), (1.0, 900, 1, 0, 1)]
    given = np.array(each, np.float32).reshape(-1)
    plan = model(2000).plan({"x": np.zeros((4, 2000), np.float32), "sampling": given}, ["y"])
    (call,) = (step.call for step in plan.steps if step.operator.name == "Sample")
    assert {part.rows for part in parts(call)} == {(0, 1, 2), (3,)}
    assert isinstance(parts(call)[0].how, Ordered)


@pytest.mark.slow
@pytest.mark.parametrize("steering", STEERINGS)
def test_a_hundred_thousand_draws(steering: tuple[float, ...]) -> None:
    assert fits(draws(SCORES, 100_000, steering), SCORES, steering)


@pytest.mark.parametrize("steering", [(1.0, 0, 1, 0), (1.0, 3, 0.9, 0)])
def test_by_fewer_rounds(steering: tuple[float, ...]) -> None:
    assert fits(draws(SCORES, 500, steering, network=FAR), SCORES, steering)


@pytest.mark.parametrize("far", [-8192.0, -np.inf])
@pytest.mark.parametrize(
    "steering",
    [
        (1.0, 0, 1, 0),
        (0.5, 0, 1, 0),
        (1.0, 4, 0.9, 0.01),
        (1.0, 10, 1, 0),
        (1.0, 10, 0.9, 0),
        (1.0, 0, 1, 0.05),
    ],
)
def test_scores_ruled_out_for_public_reasons(steering: tuple[float, ...], far: float) -> None:
    beside = np.where(np.arange(IDS) % 3 == 0, far, 0.0)
    left = np.where(beside < 0, -np.inf, SCORES)
    counts = draws(SCORES, 700, steering, beside=beside)
    assert fits(counts, left, steering)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_weights_are_computed_in_their_window(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    """A unit above it a weight may vanish, but seldom: 2^-15 of the largest did."""
    whole, seen = sample_order.weights_of, {}

    def watched(party: Any, y: Replicated, bits: int) -> Any:
        seen[party.index] = y.first
        return whole(party, y, bits)

    monkeypatch.setattr(sample_order, "weights_of", watched)
    draws(np.append(SCORES, SCORES.max()), 300, (temperature, 10, 0.9, 0))
    highest = opened([seen[party] for party in range(3)], BITS).max(axis=1)
    assert highest.max() <= WINDOW * 2**FRACTION
    assert highest.min() > WINDOW * 2**FRACTION - 10


def test_the_largest_without_noise() -> None:
    assert draws(SCORES, 7, (0.0, 0, 1, 0))[int(SCORES.argmax())] == 7


def test_one_part_of_the_noise_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the two other parts draws do not follow the softmax."""
    whole = sample.gumbel

    def poor(party: Any, shape: Any, scale: float, format: Any) -> Replicated:
        noise = whole(party, shape, scale, format)
        first = noise.first if party.index == 0 else noise.first * 0
        second = noise.second if party.index == 2 else noise.second * 0
        return Replicated(party.index, first, second, format)

    monkeypatch.setattr(sample, "gumbel", poor)
    assert not fits(draws(SCORES, 3000, (1.0, 0, 1, 0)), SCORES, (1.0, 0, 1, 0))


def test_a_long_row_of_a_product() -> None:
    """Read from the product itself; the vocabulary is spread over the pivots."""
    ids, random = 3000, np.random.default_rng(0)
    head = random.normal(0, 0.4, (8, ids)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["h", "head"], ["x"]),
        helper.make_node("Sample", ["x", "sampling"], ["y"], domain="onnxpuma"),
    ]
    inputs = [
        helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 8]),
        helper.make_tensor_value_info("sampling", TensorProto.FLOAT, [5]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])]
    graph = helper.make_graph(nodes, "draw", inputs, outputs, [numpy_helper.from_array(head, "head")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("onnxpuma", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    held = MemoryModel(proto, public_inputs=["sampling"], ranges={"h": [-4.0, 4.0]})
    h = random.normal(0, 1, (2, 8)).astype(np.float32)
    for steering in ((1.0, 0, 1, 0), (0.0, 0, 1, 0), (1.0, 5, 1, 0), (1.0, 0, 0.5, 0.01)):
        done = held.run({"h": h, "sampling": np.array([*steering, 1], np.float32)}, ["y"])
        assert done.cost == done.plan.cost
        for row, drawn in zip(h @ head, done.outputs["y"], strict=True):
            assert passing(row, steering, EDGE)[drawn]
    assert "Sample" in {step.operator.name for step in done.plan.steps}


@pytest.mark.parametrize(("top_p", "min_p", "rounds"), [(1.0, 0.0, 68), (0.9, 0.05, 88)])
def test_the_price_of_the_fifty_likeliest(top_p: float, min_p: float, rounds: int) -> None:
    """Beside 198 rounds and 14.8 MB by thresholds, and 68 rounds for the likeliest id."""
    steering = Steering((Setting(1.0, 50, top_p, min_p),))
    cost = drawn_cost(1, Ordered(steering, 49152, 80.0), Network())
    assert cost.rounds <= rounds
    assert cost.bytes <= 4.3e6


@pytest.mark.parametrize(
    "steering", [(200.0, 0, 1, 0), (0.001, 0, 1, 0), (1.0, -1, 1, 0), (1.0, 0, 0.0, 0), (1.0, 0, 1, 2.0)]
)
def test_parameters_beyond_their_ranges_are_refused(steering: tuple[float, ...]) -> None:
    feed = {"x": SCORES[None], "sampling": np.array([*steering, 1], np.float32)}
    with pytest.raises(UnsupportedModelError, match="beyond their ranges"):
        model().plan(feed, ["y"])
