"""Smooth activations over their whole range, window edges and tails included, and Relu."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpuma.check.single import OPSET, Comparison, compare, compare_model
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.pivots import SMALLEST_SPREAD
from onnxpuma.mpc.ring.words import from_integers, signed
from onnxpuma.mpc.simulate import shared_words, simulate
from onnxpuma.ops.activation import LEAST_RELU, RELU_FRACTION, SIGN_SHIFT, relu_part

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
# every tenth of the window, its edges, and far out
LINE = np.concatenate([np.arange(-26, 26, 0.1), [0, UNIT, -UNIT, 100.25, -100.25, 999, -999]]).astype(
    np.float32
)


@pytest.mark.parametrize(
    ("op", "tolerance"),
    [("Gelu", 2e-3), ("Erf", 2e-3), ("Tanh", 2e-3), ("Sigmoid", 2e-3), ("Softplus", 2.5e-3), ("Mish", 3e-3)],
)
def test_smooth_activations_on_their_range(check: Check, op: str, tolerance: float) -> None:
    done = compare(op, {"x": LINE})
    check(done, tolerance)
    assert np.abs(done.got - done.want).mean() <= tolerance / 3


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_both_kinds_of_gelu_above_the_spread(check: Check, approximate: str) -> None:
    x = np.random.default_rng(0).normal(0, 3, (3, 7, 101)).astype(np.float32)
    assert x.size > SMALLEST_SPREAD
    check(compare("Gelu", {"x": x}, approximate=approximate), 2e-3)


@pytest.mark.parametrize("alpha", [1.0, 1.702, 0.5])
def test_swish(check: Check, alpha: float) -> None:
    check(compare("Swish", {"x": np.clip(LINE, -400, 400)}, alpha=alpha), 5e-3)


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish_of_a_product(check: Check, alpha: float) -> None:
    feed = {"x": np.float32(LINE[::7, None] / 3), "w": np.array([[1, -0.5, 3]], np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Swish", ["p"], ["y0"], name="swish", alpha=alpha),
    ]
    declared = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in feed.items()]
    graph = helper.make_graph(nodes, "chain", declared, [onnx.ValueInfoProto(name="y0")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    check(compare_model(model, feed), 5e-3)


def test_swish_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UnsupportedModelError, match="alpha is not positive"):
        compare("Swish", {"x": LINE}, alpha=-1.0)


def test_relu(check: Check) -> None:
    edge = np.array([0, UNIT, -UNIT, 2**-10, -(2.0**-10), 4095, -4095], np.float32)
    check(compare("Relu", {"x": np.concatenate([LINE, edge])}), 1e-3)


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize("form", [Replicated, Sum3])
def test_a_negative_number_that_passes_as_zero_in_the_smallest_ring(form: type, straight: bool) -> None:
    """The sign is read in steps, so the gate lets some negative numbers through: they stay small."""
    bits, least = LEAST_RELU, -(1 << SIGN_SHIFT)
    edge = [(1 << (bits - 2)) - 1, 1 - (1 << (bits - 2))]
    values = np.concatenate([np.tile(np.arange(least, 4), 20_000), np.repeat(edge, 500)]).astype(np.int64)

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        given: Replicated | Sum3 = x if form is Replicated else Sum3(x.party, x.first, x.format)
        return (yield from relu_part(party, given, 1, bits, straight))

    run = simulate(program, shared_words(from_integers(values, 64), 64, RELU_FRACTION))
    got = signed(run.words(), run.results[0].bits) / 2.0 ** (run.results[0].fraction - RELU_FRACTION)
    assert np.abs(got - np.maximum(values, 0)).max() <= -least


@pytest.mark.parametrize("op", ["Relu", "Gelu", "Tanh", "Swish"])
def test_a_network_decides_rounds_against_bytes(check: Check, op: str) -> None:
    """Far apart the servers take fewer rounds, on a thin line fewer bytes."""
    x = np.random.default_rng(1).uniform(-9, 9, 20_000).astype(np.float32)
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["c"]), helper.make_node(op, ["c"], ["y0"])]
    ends = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in (("low", -8.0), ("high", 8.0))]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    graph = helper.make_graph(nodes, "chain", [given], [onnx.ValueInfoProto(name="y0")], ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    far, thin = (compare_model(model, {"x": x}, network=n) for n in (Network(1e10, 0.04), Network(1e8, 1e-5)))
    for done in (far, thin):
        check(done, 3e-3)
    assert far.outcome.cost.rounds < thin.outcome.cost.rounds
    assert far.outcome.cost.bits > thin.outcome.cost.bits


def test_scalars_and_single_numbers(check: Check) -> None:
    check(compare("Relu", {"x": np.float32(-2.5).reshape(())}), 1e-3)
    check(compare("Gelu", {"x": np.float32([[1.5]])}), 2e-3)
