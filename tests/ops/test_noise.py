"""Noise on the outputs of small models, three parties in memory: what leaves, and what cannot avoid it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Node
from onnxpuma.graph.noising import DOMAIN
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.noise import GAUSSIAN, KINDS
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.ring.words import signed
from onnxpuma.mpc.simulate import shared_words, simulate
from onnxpuma.ops.call import Call, Operand
from onnxpuma.ops.registry import find
from onnxpuma.plan.noise.wish import OutputNoise
from onnxpuma.roles.local.memory import MemoryModel

UNIT = RESTING.unit
CLASSES = 4


def scores_of(outputs: Sequence[str], extra: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    """scores = x + a secret vector, without any rounding; label = the place of the largest."""
    bias = numpy_helper.from_array(np.array([0.3125, -0.7, 0.11, 0.25], np.float32), "bias")
    kinds = {"label": (TensorProto.INT64, ["batch"])}
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=-1, keepdims=0),
        *extra,
    ]
    declared = [
        helper.make_tensor_value_info(name, *kinds.get(name, (TensorProto.FLOAT, ["batch", CLASSES])))
        for name in outputs
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(nodes, "scores", [x], declared, [bias])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def wish(**changes: Any) -> OutputNoise:
    usual = {"outputs": ["scores"], "sensitivity": 1.0, "rho": 0.5, "answers": 100, "error": 0.0}
    return OutputNoise(**{**usual, **changes})


def feed(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(0, 0.1, (rows, CLASSES)).astype(np.float32)}


def of_three(kind: str, scale: int) -> np.ndarray:
    """The probabilities of the sum of three servers' noise, the middle at zero."""
    at = np.arange(-12 * scale, 12 * scale + 1, dtype=np.float64)
    one = np.exp(-(at**2) / (2 * scale**2)) if kind == GAUSSIAN else np.exp(-np.abs(at) / scale)
    one /= one.sum()
    return np.convolve(np.convolve(one, one), one)


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_has_exactly_the_noise_of_three_servers(kind: str) -> None:
    """Chi-square against the exact probabilities, cells joined to about 20 expected draws each."""
    loss = {"rho": 1.0} if kind == GAUSSIAN else {"rho": None, "epsilon": 1.0}
    model = MemoryModel(scores_of(["scores"]), noise=wish(kind=kind, sensitivity=30 * UNIT, **loss))
    assert model.blueprint.noised is not None
    scale = model.blueprint.noised.outputs["scores"].scale
    assert 16 <= scale <= 64
    given = feed(1500)
    run = model.run(given)
    bias = np.array([0.3125, -0.7, 0.11, 0.25], np.float32)
    # Each operand is rounded to the grid by itself.
    exact = np.rint(given["x"].astype(np.float64) / UNIT) + np.rint(bias.astype(np.float64) / UNIT)
    found = np.rint(run.outputs["scores"].astype(np.float64) / UNIT - exact).astype(int).reshape(-1)
    expected = of_three(kind, scale)
    middle, width = len(expected) // 2, max(1, scale // 4)
    cells = (np.arange(len(expected)) - middle) // width
    likely = {c: expected[cells == c].sum() for c in np.unique(cells)}
    kept = [c for c, p in likely.items() if p * found.size >= 10]
    observed = [int(np.sum(found // width == c)) for c in kept]
    rest = found.size - sum(observed)
    ends = 1 - sum(likely[c] for c in kept)
    sizes = np.array([*(likely[c] for c in kept), ends]) * found.size
    assert stats.chisquare([*observed, rest], sizes * found.size / sizes.sum()).pvalue > 1e-4
    assert run.cost == run.plan.cost


def test_the_label_is_that_of_the_noisy_scores_that_leave() -> None:
    model = MemoryModel(scores_of(["scores", "label"]), noise=wish())
    run = model.run(feed(64))
    scores, labels = run.outputs["scores"], run.outputs["label"]
    assert np.array_equal(scores.argmax(axis=-1), labels)
    assert len(set(labels.tolist())) == CLASSES  # noise decides, for scores this close
    assert run.cost == run.plan.cost


def test_a_label_alone() -> None:
    """The scores stay at the servers; where they lie far apart, the label is still the right one."""
    model = MemoryModel(scores_of(["scores"]), noise=wish(label=True, rho=50.0, clip=(-200, 200)))
    assert list(model.blueprint.outputs) == ["scores.label"]
    x = 100 * np.eye(CLASSES, dtype=np.float32)[[2, 0, 3]]
    run = model.run({"x": x})
    assert run.outputs["scores.label"].tolist() == [2, 0, 3]
    assert run.cost == run.plan.cost


def test_every_run_draws_anew() -> None:
    model = MemoryModel(scores_of(["scores"]), noise=wish())
    first, second = (model.run(feed(3)).outputs["scores"] for _ in range(2))
    assert np.all(first != second)


def test_counts_get_whole_noise() -> None:
    votes = numpy_helper.from_array(np.array([3.5, 0.5, 9.5, 1.5], np.float32), "votes")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CLASSES])
    y = helper.make_tensor_value_info("scores", TensorProto.INT64, ["batch", CLASSES])
    nodes = [
        helper.make_node("Add", ["x", "votes"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["scores"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(nodes, "votes", [x], [y], [votes])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = MemoryModel(made, noise=wish(sensitivity=2.0, rho=0.001))
    assert model.blueprint.noised is not None
    assert model.blueprint.noised.outputs["scores"].unit == 1.0
    found = model.run({"x": np.zeros((200, CLASSES), np.float32)}).outputs["scores"]
    assert found.dtype == np.int64
    scale = model.blueprint.noised.outputs["scores"].scale
    assert 0.8 < np.std(found - [3, 0, 9, 1]) / (scale * np.sqrt(3)) < 1.2


def kernel_of(low: int, high: int) -> Any:
    attributes = {"kind": GAUSSIAN, "scale": 16, "low": low, "high": high}
    node = Node("noise", "Noise", DOMAIN, 1, ("x",), ("y",), attributes)
    operator = find(node)
    assert operator is not None

    def program(party: Party, x: Any) -> Protocol[Any]:
        operand = Operand("x", x.shape, np.dtype(np.float32))
        call = Call(node, (operand,), 17, (operand,))
        return (yield from operator.kernel(party, call, x))[0]

    return program


@pytest.mark.parametrize(("low", "high"), [(-1000, 5000), (300, 700), (-900, -20), (-(1 << 37), 1 << 37)])
def test_a_clipped_value_lies_in_its_range_whatever_its_words_are(low: int, high: int) -> None:
    """At the ends of the ring too, where differences wrap: no input moves an answer further than that."""
    ends = [0, 1, low, high, low - 1, high + 1, -(1 << 63), (1 << 63) - 1, -(1 << 62), 1 << 62]
    ends += [(1 << 63) + low - 1, -(1 << 63) + high, (1 << 63) - high, -(1 << 63) - low]
    words = np.array([end % (1 << 64) for end in ends], np.uint64)
    words = np.concatenate([words, np.random.default_rng(0).integers(0, 1 << 64, 500, np.uint64)])
    run = simulate(kernel_of(low, high), shared_words(words, 64, RESTING.fraction))
    seen = signed(run.words(), 64)
    most = 16 * 12  # 12 deviations of one server; of three, 7
    assert seen.min() >= low - most
    assert seen.max() <= high + most
    inside = (signed(words, 64) >= low) & (signed(words, 64) <= high)
    assert np.abs(seen - signed(words, 64))[inside].max() <= most


BYPASS = {
    "another sum": [helper.make_node("Add", ["x", "bias"], ["other"])],
    "what stands before": [helper.make_node("Mul", ["scores", "bias"], ["other"])],
    "a branch": [
        helper.make_node(
            "If", ["always"], ["other"],
            then_branch=helper.make_graph([helper.make_node("Add", ["x", "bias"], ["t"])], "t", [],
                [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]),
            else_branch=helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "e", [],
                [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)]),
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("extra", BYPASS.values(), ids=list(BYPASS))
def test_an_output_that_avoids_the_noise_is_refused_and_may_be_hidden(extra: list[onnx.NodeProto]) -> None:
    made = scores_of(["scores", "other"], extra)
    if extra[0].op_type == "If":
        made.graph.input.append(helper.make_tensor_value_info("always", TensorProto.BOOL, []))
    with pytest.raises(ConfigError, match=r"other would leave without noise[\s\S]*--hide 'other'"):
        MemoryModel(made, noise=wish())
    hidden = MemoryModel(made, noise=wish(), hide=["other"])
    assert list(hidden.blueprint.outputs) == ["scores"]


def test_what_follows_from_inputs_and_noisy_values_alone_may_leave() -> None:
    extra = [helper.make_node("Mul", ["scores", "x"], ["other"])]
    model = MemoryModel(scores_of(["scores", "other"], extra), noise=wish())
    given = feed(5)
    run = model.run(given)
    assert np.allclose(run.outputs["other"], run.outputs["scores"] * given["x"], atol=1e-3)
