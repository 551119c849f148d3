"""Each value rests in the least format that its readers accept, where bounds prove that nothing wraps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.local.memory import MemoryModel

RNG = np.random.default_rng(14)
TOKENS, WIDTH, HEADS = 8, 32, 2
X = RNG.normal(0, 1, (1, TOKENS, WIDTH)).astype(np.float32)


def weights(size: float = 1.0, **more: np.ndarray) -> dict[str, np.ndarray]:
    """A norm's scale and the projections of an attention; queries and keys are `size` times ordinary."""
    drawn = {name: RNG.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)) for name in ("wq", "wk", "wv", "wo")}
    drawn["wq"], drawn["wk"] = drawn["wq"] * size, drawn["wk"] * size
    return {"scale": np.ones(WIDTH), **drawn, **more}


def attended(outputs: Sequence[str] = ("c",)) -> list[onnx.NodeProto]:
    """Queries, keys and values of normalised rows, and their attention `c`."""
    heads = {"q_num_heads": HEADS, "kv_num_heads": HEADS}
    inputs = ["q", "k", "v"]
    return [
        helper.make_node("RMSNormalization", ["x", "scale"], ["n"], axis=-1),
        *(helper.make_node("MatMul", ["n", f"w{name}"], [name]) for name in inputs),
        helper.make_node("Attention", inputs, list(outputs), **heads),
    ]


def model_of(
    nodes: Sequence[onnx.NodeProto], held: dict[str, np.ndarray], outputs: dict[str, Sequence[int]]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def run(model: onnx.ModelProto, tolerance: float, x: np.ndarray = X) -> Plan:
    """Run on shares: close to onnxruntime, in range, and at the declared cost. Returns the plan."""
    outcome = MemoryModel(model, at_client=False).run({"x": x})
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    assert outcome.reliable
    assert outcome.cost == outcome.plan.cost
    for got, true in zip(outcome.outputs.values(), want, strict=True):
        assert np.abs(got - true).max() <= tolerance * max(1.0, float(np.abs(true).max()))
    return outcome.plan


def reading(plan: Plan, operator: str, place: int) -> Operand:
    """An input of the first step with this operator."""
    step = next(step for step in plan.steps if step.operator.name == operator)
    return step.call.given(place)


def rows() -> dict[str, Sequence[int]]:
    return {"c": X.shape}


def test_queries_and_keys_rest_in_the_ring_of_their_scores() -> None:
    plan = run(model_of(attended(), weights(), rows()), 4e-4)
    q, k, v = (reading(plan, "Attention", place) for place in range(3))
    assert q.format == k.format
    assert (q.fraction, q.deferred) == (14, False)
    assert q.format.bits <= 42  # what the shift leaves of a product
    assert v.deferred  # truncated beside the numerators
    costs = [step.cost for step in plan.steps if step.outputs[0] in (q.name, k.name)]
    assert [cost.rounds for cost in costs] == [1, 1]
    assert sum((cost for cost in costs), Cost()).bits == 2 * q.size * 3 * q.format.bits


@pytest.mark.parametrize("size", [2.0, 4.0, 8.0])
def test_long_queries_keep_more_bits(size: float) -> None:
    """As long as the bound allows: rows that point along the longest columns of the weights."""
    held = weights(size)
    plan = run(model_of(attended(), held, rows()), 2e-3)
    q, k = (reading(plan, "Attention", place) for place in range(2))
    largest = q.bound.length(WIDTH // HEADS) * k.bound.length(WIDTH // HEADS)
    assert largest * 2.0 ** (q.fraction + k.fraction + 2) < 2.0 ** min(q.format.bits, k.format.bits)


def test_queries_without_a_proved_bound_rest_as_usual() -> None:
    nodes = [node for node in attended() if node.op_type != "RMSNormalization"]
    for node in nodes:
        node.input[:] = ["x" if name == "n" else name for name in node.input]
    plan = MemoryModel(model_of(nodes, weights(), rows()), at_client=False).plan({"x": X})
    assert {reading(plan, "Attention", place).format for place in range(2)} == {RESTING}


def test_an_output_keeps_the_format_of_the_model() -> None:
    """Keys that the client opens too rest as usual, and the queries read beside them do not."""
    plan = run(model_of(attended(), weights(), {**rows(), "k": (1, TOKENS, WIDTH)}), 4e-4)
    assert reading(plan, "Attention", 1).format == RESTING
    assert reading(plan, "Attention", 0).fraction == 14


def test_keys_that_stay_for_later_requests_rest_as_usual() -> None:
    size = WIDTH // HEADS
    kept = {"pk": (1, HEADS, TOKENS, size), "pv": (1, HEADS, TOKENS, size)}
    plan = run(model_of(attended(("c", "pk", "pv")), weights(), {**rows(), **kept}), 4e-4)
    assert {reading(plan, "Attention", place).format for place in (1, 2)} == {RESTING}


def test_the_digest_covers_formats() -> None:
    plan = MemoryModel(model_of(attended(), weights(), rows()), at_client=False).plan({"x": X})

    def other(operand: Operand | None) -> Operand | None:
        if operand is None or operand.fraction != 14:
            return operand
        return replace(operand, format=Format(operand.format.bits + 1, 14))

    waves = tuple(
        tuple(
            replace(step, call=replace(step.call, inputs=tuple(map(other, step.call.inputs))))
            for step in wave
        )
        for wave in plan.waves
    )
    assert replace(plan, waves=waves).digest != plan.digest
    assert replace(plan, waves=plan.waves).digest == plan.digest
