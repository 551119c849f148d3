"""If, Loop and Scan with public conditions and iterations, around secret values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpuma.check.single import Comparison, compare_model
from onnxpuma.errors import UnsupportedModelError

X = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)
UNIT = 2.0**-18
KINDS = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}


def value(name: str, kind: str = "f", shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, KINDS[kind], shape)


def body(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
    kinds = {"turn": "i", "going": "b", "on": "b"}
    return helper.make_graph(
        nodes,
        "body",
        [value(n, kinds.get(n, "f"), () if n in kinds else None) for n in inputs],
        [value(n, kinds.get(n, "f"), () if n in kinds else None) for n in outputs],
    )


def run(
    node: onnx.NodeProto, feed: Mapping[str, np.ndarray], public: Sequence[str], outputs: int = 1
) -> Comparison:
    model = helper.make_model(
        helper.make_graph(
            [node],
            "control",
            [value(n, v.dtype.kind, v.shape) for n, v in feed.items()],
            [value(f"y{i}") for i in range(outputs)],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    done = compare_model(model, feed, public)
    assert done.outcome.cost == done.outcome.plan.cost
    return done


def branches(weights: str = "x") -> onnx.NodeProto:
    double = body([helper.make_node("Add", [weights, weights], ["t"])], [], ["t"])
    curved = body([helper.make_node("Relu", ["x"], ["e"])], [], ["e"])
    return helper.make_node("If", ["c"], ["y0"], then_branch=double, else_branch=curved)


@pytest.mark.parametrize("condition", [True, False])
def test_a_public_condition_chooses_a_branch(condition: bool) -> None:
    done = run(branches(), {"c": np.array(condition), "x": X}, ["c"])
    assert done.error <= 1e-3
    assert [s.operator.name for s in done.outcome.plan.steps] == ["Add" if condition else "Relu", "Identity"]


def test_a_secret_condition_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="condition is secret"):
        run(branches(), {"c": np.array(True), "x": X}, [])


def loop(nodes: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """state -> state + x in each iteration; every state is an output."""
    inner = body(
        [
            *nodes,
            helper.make_node("Add", ["state", "x"], ["next"]),
            helper.make_node("Identity", ["next"], ["row"]),
        ],
        ["turn", "going", "state"],
        ["on", "next", "row"],
    )
    return helper.make_node("Loop", ["m", "", "x"], ["y0", "y1"], body=inner)


def test_a_loop_of_public_length() -> None:
    node = loop([helper.make_node("Identity", ["going"], ["on"])])
    done = run(node, {"m": np.array(3), "x": X}, ["m"], outputs=2)
    assert done.error <= 5 * UNIT
    assert done.all_got[1].shape == (3, 4, 3)


def test_a_loop_that_ends_itself() -> None:
    one = helper.make_node("Constant", [], ["one"], value_int=1)
    node = loop([one, helper.make_node("Less", ["turn", "one"], ["on"])])
    assert run(node, {"m": np.array(9), "x": X}, ["m"], outputs=2).all_got[1].shape == (2, 4, 3)


def test_loops_that_are_refused() -> None:
    node = loop([helper.make_node("Identity", ["going"], ["on"])])
    with pytest.raises(UnsupportedModelError, match="trip count is secret"):
        run(node, {"m": np.array(3), "x": X}, [], outputs=2)
    with pytest.raises(UnsupportedModelError, match="runs no iteration"):
        run(node, {"m": np.array(0), "x": X}, ["m"], outputs=2)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan(direction: int, axis: int) -> None:
    inner = body(
        [
            helper.make_node("Mul", ["state", "row"], ["next"]),
            helper.make_node("Sub", ["next", "row"], ["written"]),
        ],
        ["state", "row"],
        ["next", "written"],
    )
    node = helper.make_node(
        "Scan",
        ["s", "x"],
        ["y0", "y1"],
        body=inner,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_input_directions=[direction],
        scan_output_axes=[axis],
        scan_output_directions=[direction],
    )
    start = np.full(X.shape[1 - axis], 1.5, np.float32)
    done = run(node, {"s": start, "x": X}, [], outputs=2)
    assert [got.shape for got in done.all_got] == [want.shape for want in done.all_want]
    assert done.error <= 40 * UNIT


def test_a_branch_inside_a_loop_reads_what_is_around_it() -> None:
    double = body([helper.make_node("Add", ["state", "x"], ["t"])], [], ["t"])
    same = body([helper.make_node("Identity", ["state"], ["e"])], [], ["e"])
    inner = body(
        [
            helper.make_node("Constant", [], ["one"], value_int=1),
            helper.make_node("Less", ["turn", "one"], ["first"]),
            helper.make_node("If", ["first"], ["next"], then_branch=double, else_branch=same),
            helper.make_node("Identity", ["going"], ["on"]),
        ],
        ["turn", "going", "state"],
        ["on", "next"],
    )
    node = helper.make_node("Loop", ["m", "", "x"], ["y0"], body=inner)
    done = run(node, {"m": np.array(3), "x": X}, ["m"])
    assert np.abs(done.got - 2 * X).max() <= 3 * UNIT
