"""A model whose weights and values rest in fewer bits than a word: its owner chooses, and no kernel does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError, UnsupportedModelError
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.roles.local.memory import MemoryModel, MemoryRun
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.weights import load_weights

RNG = np.random.default_rng(48)
ROWS, WIDTH, HIDDEN, CLASSES = 12, 16, 32, 4
NARROW = Format(48, RESTING.fraction)


def network(*last: str) -> onnx.ModelProto:
    """Two layers with Gelu and Relu between them, Softmax, and operators that read its result."""
    weights = {
        "w1": RNG.normal(0, WIDTH**-0.5, (WIDTH, HIDDEN)),
        "b1": RNG.normal(0, 0.5, HIDDEN),
        "w2": RNG.normal(0, HIDDEN**-0.5, (HIDDEN, HIDDEN)),
        "w3": RNG.normal(0, HIDDEN**-0.5, (HIDDEN, CLASSES)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h1"]),
        helper.make_node("Add", ["h1", "b1"], ["h2"]),
        helper.make_node("Gelu", ["h2"], ["h3"]),
        helper.make_node("MatMul", ["h3", "w2"], ["h4"]),
        helper.make_node("Relu", ["h4"], ["h5"]),
        helper.make_node("Softmax", ["h5"], ["h6"], axis=-1),
        helper.make_node("MatMul", ["h6", "w3"], ["y0"]),
    ]
    for number, op in enumerate(last):
        nodes.append(helper.make_node(op, [f"y{number}"], [f"y{number + 1}"]))
    initializers = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    x, y = ("x", [ROWS, WIDTH]), (f"y{len(last)}", [ROWS, CLASSES])
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
        [helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


MODEL = network()
X = RNG.normal(0, 1, (ROWS, WIDTH)).astype(np.float32)


def run(resting: Format, range_check: bool = True) -> MemoryRun:
    policy = Policy(resting=resting, range_check=range_check)
    return MemoryModel(MODEL, policy, rewrite=False).run({"x": X})


def in_the_clear() -> np.ndarray:
    session = onnxruntime.InferenceSession(MODEL.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


@pytest.mark.parametrize("bits", [48, 54, 64])
@pytest.mark.parametrize("range_check", [True, False])
def test_the_results_are_those_of_onnxruntime(bits: int, range_check: bool) -> None:
    outcome = run(Format(bits, RESTING.fraction), range_check)
    assert outcome.reliable
    assert np.abs(outcome.outputs["y0"] - in_the_clear()).max() < 2e-3


@pytest.mark.parametrize("bits", [48, 54, 64])
def test_the_counted_bytes_are_those_declared(bits: int) -> None:
    outcome = run(Format(bits, RESTING.fraction))
    assert outcome.cost == outcome.plan.cost


def test_a_narrower_ring_sends_fewer_bytes() -> None:
    costs = [run(Format(bits, RESTING.fraction)).cost for bits in (48, 54, 64)]
    assert costs[0].bits < costs[1].bits < costs[2].bits


def test_every_value_of_the_plan_rests_in_the_declared_ring() -> None:
    plan = run(NARROW).plan
    held = [o for step in plan.steps if not step.checks for o in (*step.call.inputs, *step.call.outputs)]
    assert {o.format.bits for o in held if o is not None and o.secret} == {NARROW.bits}
    assert {entry.format for entry in plan.inputs} == {output.format for output in plan.results} == {NARROW}


def test_the_files_of_shares_hold_words_of_the_declared_width(tmp_path: Path) -> None:
    onnx.save(MODEL, tmp_path / "model.onnx")
    sizes = []
    for resting in (NARROW, RESTING):
        folder = tmp_path / str(resting.bits)
        share_model(tmp_path / "model.onnx", folder, policy=Policy(resting=resting, ring=64))
        assert Blueprint.read(folder).resting == resting
        sizes.append((folder / "words.safetensors").stat().st_size)
        shares = [load_weights(folder, party)["model"]["w1"] for party in range(3)]
        assert {share.format for share in shares} == {resting}
        opened = resting.decode(sum(share.first for share in shares))
        (weight,) = (i for i in MODEL.graph.initializer if i.name == "w1")
        assert np.abs(opened - numpy_helper.to_array(weight)).max() <= resting.unit / 2
    weights = sum(int(np.prod(i.dims)) for i in MODEL.graph.initializer)
    assert abs(sizes[1] - sizes[0] - 2 * weights) < 200


def test_an_operator_that_needs_whole_words_is_refused_by_name() -> None:
    model = network("Exp")
    MemoryModel(model, rewrite=False).plan({"x": X})
    with pytest.raises(UnsupportedModelError, match=r"\(Exp, .* computes on words of 64 bits.* rest in 48"):
        MemoryModel(model, Policy(resting=NARROW), rewrite=False).plan({"x": X})


def test_a_softmax_needs_digits_of_a_rows_sum() -> None:
    resting = Format(40, RESTING.fraction)
    with pytest.raises(UnsupportedModelError, match=r"\(Softmax, .* of 40 bits"):
        MemoryModel(MODEL, Policy(resting=resting), rewrite=False).plan({"x": X})


@pytest.mark.parametrize("resting", [Format(32, 18), Format(72, 18), Format(48, 16)])
def test_other_formats_are_refused(resting: Format) -> None:
    with pytest.raises(ConfigError, match="values cannot rest"):
        MemoryModel(MODEL, Policy(resting=resting), rewrite=False)


def test_a_sum_that_leaves_a_narrow_ring_is_noticed() -> None:
    """2^26 is the largest input in 48 bits, and 2^27 the largest sum."""
    nodes = [helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("Add", ["a", "x"], ["y"])]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])
    graph = helper.make_graph(nodes, "sums", [value], [helper.make_tensor_value_info("y", 1, [2, 8])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    narrow = MemoryModel(model, Policy(resting=NARROW), at_client=False, rewrite=False)
    small, large = (np.full((2, 8), size, np.float32) for size in (2.0**20, 2.0**25.9))
    near = narrow.run({"x": small})
    assert near.reliable
    assert (near.outputs["y"] == 3 * small).all()
    assert not narrow.run({"x": large}).reliable
    assert MemoryModel(model, at_client=False, rewrite=False).run({"x": large}).reliable
