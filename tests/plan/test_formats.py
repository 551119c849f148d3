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
from onnxpuma.ops.activation import RAMPS
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
    nodes: Sequence[onnx.NodeProto],
    held: dict[str, np.ndarray],
    outputs: dict[str, Sequence[int]],
    opset: int = 23,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model: onnx.ModelProto, tolerance: float, x: np.ndarray = X, public: Sequence[str] = ()) -> Plan:
    """Run on shares: close to onnxruntime, in range, and at the declared cost. Returns the plan."""
    outcome = MemoryModel(model, at_client=False, public=public).run({"x": x})
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

    steps = tuple(
        replace(step, call=replace(step.call, inputs=tuple(map(other, step.call.inputs))))
        for step in plan.steps
    )
    assert replace(plan, steps=steps).digest != plan.digest
    assert replace(plan, steps=plan.steps).digest == plan.digest


# -- layers behind a norm -------------------------------------------------------------------------------


def in_layers(*between: onnx.NodeProto, last: str, norm: str = "RMSNormalization") -> list[onnx.NodeProto]:
    """A norm of x, a layer `h`, the nodes between, a layer of `last`, its sum with the rows, and a norm."""
    return [
        helper.make_node(norm, ["x", "scale"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "w1"], ["h"]),
        *between,
        helper.make_node("MatMul", [last, "w2"], ["z"]),
        helper.make_node("Add", ["z", "n"], ["r"]),
        helper.make_node(norm, ["r", "scale"], ["c"], axis=-1),
    ]


GELU = in_layers(helper.make_node("Gelu", ["h"], ["g"]), last="g")
CENTRED = in_layers(helper.make_node("Gelu", ["h"], ["g"]), last="g", norm="LayerNormalization")
GATED = in_layers(
    helper.make_node("MatMul", ["n", "w3"], ["u"]),
    helper.make_node("Swish", ["h"], ["s"]),
    helper.make_node("Mul", ["s", "u"], ["g"]),
    last="g",
)


def layers(size: float = 1.0) -> dict[str, np.ndarray]:
    drawn = {name: RNG.normal(0, size * WIDTH**-0.5, (WIDTH, WIDTH)) for name in ("w1", "w2", "w3")}
    return {"scale": np.ones(WIDTH), **drawn}


def model_at_24(nodes: Sequence[onnx.NodeProto], held: dict[str, np.ndarray]) -> onnx.ModelProto:
    used = {name: held[name] for name in held if any(name in node.input for node in nodes)}
    return model_of(nodes, used, rows(), opset=24)


@pytest.mark.parametrize(
    ("nodes", "activation"),
    [(GELU, "Gelu"), (CENTRED, "Gelu"), (GATED, "Swish")],
    ids=["gelu", "centred", "gated"],
)
@pytest.mark.parametrize("size", [0.25, 1.0, 3.0])
def test_the_values_of_a_layer_rest_in_the_ring_of_its_product(
    nodes: list[onnx.NodeProto], activation: str, size: float
) -> None:
    plan = run(model_at_24(nodes, layers(size)), 2.5e-3 * max(1.0, size))
    for step in plan.steps:
        for operand in step.call.outputs if not step.checks else ():
            spare = 1 if step.operator.name in RAMPS else 2  # terms of a ramp reach further up than down
            assert operand.bound.size * 2.0 ** (operand.fraction + spare) < 2.0**operand.format.bits or (
                not operand.deferred
            )
    norm, result = reading(plan, "MatMul", 0), reading(plan, activation, 0)
    assert nodes is GATED or norm.format.bits < RESTING.bits  # what it saves would cost a round elsewhere
    assert (result.format.bits, result.fraction) == (norm.format.bits, 2 * RESTING.fraction + 1)  # doubled
    (last,) = (step.call for step in plan.steps if step.outputs == ("z",))
    assert last.given(0).format.bits == last.outputs[0].format.bits < RESTING.bits


def test_a_layer_at_the_end_of_its_bound_is_right() -> None:
    """Rows that point along the columns of the first weight: no row of this length has a larger product."""
    held = layers(6.0)
    held["w1"][:, 0] *= 4
    x = np.repeat(held["w1"][:, :1].T * 50, TOKENS, axis=0)[None].astype(np.float32)
    model = model_at_24(GELU, held)
    plan = run(model, 2.5e-3 * 10, x)
    bound = reading(plan, "Gelu", 0).bound.size
    reached = float(np.linalg.norm(held["w1"][:, 0])) * WIDTH**0.5
    assert 0.7 * bound < reached < bound
    assert reading(plan, "MatMul", 0).format.bits < RESTING.bits


def test_weights_too_large_for_a_proof_leave_values_as_they_are() -> None:
    plan = MemoryModel(model_at_24(GELU, layers(2.0**24)), at_client=False).plan({"x": X})
    assert reading(plan, "MatMul", 0).format == RESTING


def turned(of: dict[str, str], size: float = 1.0) -> tuple[onnx.ModelProto, tuple[str, str]]:
    """The attention of queries and keys that are rotations of these values, and its public tables."""
    turns = RNG.uniform(0, 6, (1, TOKENS, WIDTH // HEADS // 2))
    tables = {"cos": np.cos(turns), "sin": np.sin(turns)}
    nodes = attended()
    nodes[-1].input[:] = ["turned q", "turned k", "v"]
    for name, given in of.items():
        turn = [given, *tables], [f"turned {name}"]
        nodes.insert(-1, helper.make_node("RotaryEmbedding", *turn, num_heads=HEADS))
    return model_of(nodes, weights(size, **tables), rows()), ("cos", "sin")


def test_a_rotation_of_a_value_at_rest_is_lowered_without_a_message() -> None:
    model, tables = turned({"q": "n", "k": "n"})
    plan = run(model, 4e-4, public=tables)
    costs = [step.cost for step in plan.steps if step.operator.name == "RotaryEmbedding"]
    assert set(costs) == {Cost()}
    assert [reading(plan, "Attention", place).fraction for place in (0, 1)] == [14, 14]


def test_a_product_is_truncated_once_it_is_turned() -> None:
    """As long as its bound leaves room for the tables' bits."""
    model, tables = turned({"q": "q", "k": "k"})
    plan = run(model, 4e-4, public=tables)
    x = reading(plan, "RotaryEmbedding", 0)
    assert x.deferred
    (q,) = (step for step in plan.steps if step.outputs == ("turned q",))
    assert q.cost.rounds == 2
    model, tables = turned({"q": "q", "k": "k"}, 64.0)
    plan = MemoryModel(model, at_client=False, public=tables).plan({"x": X})
    assert not reading(plan, "RotaryEmbedding", 0).deferred
