"""The cost of a request is known before any value of that size is made."""

from __future__ import annotations

import math
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import InputError
from onnxpuma.graph.model import Node
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget, _needs, hidden_elements, needed_bytes, public_bytes
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.plan.timeline import Uses, events
from onnxpuma.roles.request.plans import Plans

MEGABYTE = 1_000_000


def attention(path: Path) -> Blueprint:
    """x W W^T x^T under a mask of n^2 numbers, derived from the length of a public mask."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Shape", ["attention_mask"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
        helper.make_node("Unsqueeze", ["places", "axis"], ["column"]),
        helper.make_node("LessOrEqual", ["places", "column"], ["causal"]),
        helper.make_node("Where", ["causal", "nothing", "low"], ["mask"]),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "turned"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "rows"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.random.default_rng(0).normal(0, 1, (50, 4)).astype(np.float32), "table"),
        numpy_helper.from_array(np.array(0), "zero"),
        numpy_helper.from_array(np.array(1), "one"),
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        numpy_helper.from_array(np.array(-10000, np.float32), "low"),
    ]
    kinds = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"])
        for n in ("ids", "attention_mask")
    ]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 4])]
    graph = helper.make_graph(nodes, "attention", kinds, out, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    from onnxpuma.graph.load import load

    return prepare_model(load(path))[0]


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return attention(tmp_path_factory.mktemp("attention") / "model.onnx")


def plan(blueprint: Blueprint, length: int, budget: Budget | None) -> Any:
    shapes = {"ids": (1, length), "attention_mask": (1, length)}
    public = {"attention_mask": np.ones((1, length), np.int64)}
    return compile_plan(blueprint, shapes, public, budget=budget)


def budget(**changes: Any) -> Budget:
    return Budget(
        **{"bytes": 100 * MEGABYTE, "elements": 1 << 28, "traffic": 1 << 40, "seconds": 60.0, **changes}
    )


def test_a_mask_of_n_squared_is_refused_before_it_is_made(blueprint: Blueprint) -> None:
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="too large") as caught:
            plan(blueprint, 100_000, budget())
        assert tracemalloc.get_traced_memory()[1] < 50 * MEGABYTE
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 5
    assert "request_megabytes" in caught.value.hint


@pytest.mark.parametrize("length", [3_000, 30_000, 300_000, 3_000_000])
def test_any_length_is_refused_quickly(blueprint: Blueprint, length: int) -> None:
    start = time.monotonic()
    with pytest.raises(InputError):
        plan(blueprint, length, budget(bytes=20 * MEGABYTE))
    assert time.monotonic() - start < 5


def test_what_fits_is_planned_as_without_a_budget(blueprint: Blueprint) -> None:
    assert plan(blueprint, 100, budget()).digest == plan(blueprint, 100, None).digest


def test_the_run_may_need_more_than_planning_it(blueprint: Blueprint) -> None:
    needed = needed_bytes(plan(blueprint, 200, None))
    assert needed > 16 * 200 * 200 * 3
    assert plan(blueprint, 200, budget(bytes=needed))
    with pytest.raises(InputError, match=r"it needs .* MB at each server"):
        plan(blueprint, 200, budget(bytes=needed - 1))


def test_the_run_needs_the_most_that_is_alive_at_a_time(blueprint: Blueprint) -> None:
    """Counted step by step, as the arrays of the estimate are not."""
    made = plan(blueprint, 50, None)
    alive = {entry.operand: entry.format.held * math.prod(entry.shape) for entry in made.inputs}
    running: dict[int, int] = {}
    uses, most = Uses(made), 0
    for step, starts in events(made, lambda _: 1):
        needs = _needs(step)
        if starts:
            alive.update(zip(step.outputs, needs.outputs, strict=True))
            running[step.index] = needs.workspace
        else:
            del running[step.index]
            for name in uses.over(step):
                alive.pop(name, None)
        most = max(most, sum(alive.values()) + sum(running.values()))
    assert needed_bytes(made) == most + public_bytes(made)


def test_traffic_is_bounded(blueprint: Blueprint) -> None:
    made = plan(blueprint, 100, None)
    sent = int(made.cost.bytes / 3)
    with pytest.raises(InputError, match="each server would send") as caught:
        plan(blueprint, 100, budget(traffic=sent))
    assert "traffic_megabytes" in caught.value.hint
    assert plan(blueprint, 100, budget(traffic=20 * sent)), "it is estimated, and not excessively"


def test_what_an_operator_makes_within_counts() -> None:
    """An Attention's output has n rows, but its scores are n^2 in number."""
    node = Node("n", "Attention", "", 24, (), (), {"q_num_heads": 3})
    assert hidden_elements(node, [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8)]) == 2 * 3 * 5 * 7
    assert hidden_elements(node, [(2, 5, 24), (2, 7, 24), (2, 7, 24)]) == 2 * 3 * 5 * 7
    past = [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8), None, (2, 3, 4, 8), (2, 3, 4, 8)]
    assert hidden_elements(node, past) == 2 * 3 * 5 * 11
    node = Node("n", "Conv", "", 24, (), (), {})
    assert hidden_elements(node, [(1, 3, 10, 10), (8, 3, 5, 5)], [(1, 8, 3, 3)]) == 3 * 9 * 25
    node = Node("n", "ConvTranspose", "", 24, (), (), {"group": 2})
    assert hidden_elements(node, [(1, 4, 10, 10), (4, 3, 2, 2)], [(1, 6, 20, 20)]) == 100 * 6 * 4
    node = Node("n", "MaxPool", "", 24, (), (), {"kernel_shape": [3, 2]})
    assert hidden_elements(node, [(1, 3, 10, 10)], [(1, 3, 8, 9)]) == 3 * 72 * 6


def test_planning_a_large_request_takes_no_time_and_no_memory(blueprint: Blueprint) -> None:
    """Not even if it is allowed: the cost of a run follows from shapes."""
    start = time.process_time()
    with pytest.raises(InputError, match="it needs"):
        plan(blueprint, 4000, budget(bytes=800 * MEGABYTE))
    assert time.process_time() - start < 5


def test_the_longest_input_is_bounded(blueprint: Blueprint) -> None:
    with pytest.raises(InputError, match=r"'ids' of shape \(1, 101\) has 101 elements, 100 are allowed"):
        plan(blueprint, 101, budget(elements=100))


def test_planning_may_not_take_long(blueprint: Blueprint) -> None:
    with pytest.raises(InputError, match="planning the request takes more than 0 s") as caught:
        plan(blueprint, 10, budget(seconds=0.0))
    assert "planning" in caught.value.hint


def test_plans_that_are_kept_are_bounded_in_bytes(
    blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxpuma.roles.request import plans

    monkeypatch.setattr(plans, "KEPT_BYTES", 1 * MEGABYTE)
    kept = Plans(blueprint)
    for length in range(300, 308):
        public = {"attention_mask": np.ones((1, length), np.int64)}
        kept.get({"ids": (1, length), "attention_mask": (1, length)}, public)
        assert kept._bytes() < 3 * MEGABYTE


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Expand", {"data": np.ones(1, np.float32), "n": np.array([1 << 20, 1 << 20])}, {}),
        ("Tile", {"data": np.ones(4, np.float32), "n": np.array([1 << 40])}, {}),
        ("ConstantOfShape", {"n": np.array([1 << 20, 1 << 20])}, {}),
        ("Range", {"a": np.array(0), "n": np.array(1 << 40), "c": np.array(1)}, {}),
        ("OneHot", {"n": np.zeros(4096, np.int64), "d": np.array(1 << 30), "v": np.array([0, 1])}, {}),
        ("Pad", {"data": np.ones(4, np.float32), "n": np.array([0, 1 << 40])}, {}),
        ("Outer", {"n": np.zeros((1 << 20, 1), np.int64), "b": np.zeros((1, 1 << 20), np.int64)}, {}),
    ],
)  # fmt: skip
def test_whatever_makes_large_values_of_small_ones(op: str, inputs: dict[str, Any], attributes: Any) -> None:
    """The client chooses public inputs, and each of these operators makes at least 2^40 bytes of them."""
    node = helper.make_node("Mul" if op == "Outer" else op, list(inputs), ["big"], **attributes)
    nodes = [
        node,
        helper.make_node("Cast", ["big"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "sum"], ["y"]),
    ]
    kinds = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in inputs.items()
    ]
    kinds.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]))
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    model = helper.make_model(
        helper.make_graph(nodes, "big", kinds, out),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    import onnx_ir as ir

    blueprint, _ = prepare_model(
        ir.serde.deserialize_model(model), Policy(public_inputs=list(inputs)), rewrite=False
    )
    shapes = {**{n: v.shape for n, v in inputs.items()}, "x": (2,)}
    start = time.monotonic()
    with pytest.raises(InputError, match="too large"):
        compile_plan(blueprint, shapes, inputs, budget=budget())
    assert time.monotonic() - start < 5


def test_the_price_of_an_attention_takes_no_number_for_each_score() -> None:
    import onnx_ir as ir

    kernel = np.random.default_rng(0).normal(0, 1, (8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "x"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "w"], ["y"]),
    ]
    kind, out = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, "n", 8]) for n in ("x", "y"))
    graph = helper.make_graph(nodes, "fused", [kind], [out], [numpy_helper.from_array(kernel, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    fused = prepare_model(ir.serde.deserialize_model(model))[0]
    assert "Attention" in {node.op for node in fused.graph.nodes}
    tracemalloc.start()
    try:
        assert compile_plan(fused, {"x": (1, 100_000, 8)}, {}).cost.bytes > 1e11
        assert tracemalloc.get_traced_memory()[1] < 100 * MEGABYTE
    finally:
        tracemalloc.stop()
