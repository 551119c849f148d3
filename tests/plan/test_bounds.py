"""Bounds: the facts that an owner tells of weights, their consequences, and that no value exceeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnxpuma.errors import ConfigError, InputError, PlanError
from onnxpuma.graph.model import Graph
from onnxpuma.mpc.cost import Network
from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.sight import measured, of_values
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.declared import declare, declare_all
from onnxpuma.plan.examine.clear import ClearRun
from onnxpuma.plan.examine.kept_bounds import settled
from onnxpuma.plan.examine.proofs import examined
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.prepare import prepare, prepare_model
from onnxpuma.plan.weights.facts import bound_of, number, rounded
from onnxpuma.plan.weights.uses import head_sizes
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.request.feed import check_feed, check_filling

FLOAT = onnx.TensorProto.FLOAT
SHAPE = (2, 6, 24)
MODELS = Path(__file__).parents[2] / "models"


def made(nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray]) -> tuple[Blueprint, Graph]:
    """A model from x to the last node's output; floats are secret, integers public."""
    arrays = [
        numpy_helper.from_array(v if v.dtype.kind == "i" else v.astype(np.float32), n)
        for n, v in weights.items()
    ]
    given = [helper.make_tensor_value_info("x", FLOAT, SHAPE)]
    output = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
    graph = helper.make_graph(list(nodes), "bounded", given, [output], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    public = [n for n, v in weights.items() if v.dtype.kind == "i"]
    return prepare_model(ir.serde.deserialize_model(proto), Policy(public=public), rewrite=False)


# -- facts ----------------------------------------------------------------------------------


@given(st.floats(min_value=1e-20, max_value=1e20))
def test_a_fact_is_rounded_up_to_a_quarter_of_a_power_of_two(value: float) -> None:
    assert value <= number(rounded(value)) <= value * 2**0.25 * (1 + 1e-12)
    assert rounded(number(rounded(value))) == rounded(value)


def test_facts_of_a_factor() -> None:
    rng = np.random.default_rng(3)
    w, b = rng.normal(size=(24, 32)), rng.uniform(1, 2, 32)
    shape = np.array([2, 6, 4, 8])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["p", "b"], ["q"], name="bias"),
        helper.make_node("Reshape", ["q", "shape"], ["y"], name="heads"),
    ]
    blueprint, _ = made(nodes, {"w": w, "b": b, "shape": shape})
    found, bias = bound_of(blueprint.facts["w"]), bound_of(blueprint.facts["b"])
    heads = w.reshape(24, 4, 8).transpose(1, 0, 2)
    wanted = {
        "column": np.linalg.norm(w, axis=0).max(),
        "sum": np.abs(w).sum(axis=0).max(),
        "spectral": np.linalg.norm(w, 2),
        "spectral 8": max(np.linalg.norm(head, 2) for head in heads),
    }
    assert found.matrix.keys() == wanted.keys()
    for key, value in wanted.items():
        loose = 1.2
        assert value <= found.matrix[key] <= loose * value, key
    assert np.abs(w).max() <= found.size <= 1.2 * np.abs(w).max()
    assert 0.8 * b.min() <= bias.low <= b.min(), "the least positive number is told"
    assert np.linalg.norm(b.reshape(4, 8), axis=1).max() <= bias.blocks[8]


def test_of_few_numbers_less_is_told() -> None:
    blueprint, _ = made([helper.make_node("Mul", ["x", "w"], ["y"], name="scaled")], {"w": np.array([0.3])})
    found = bound_of(blueprint.facts["w"])
    assert found.low == pytest.approx(0.25, rel=1e-5)
    assert found.high == 0.5


def test_sizes_of_heads() -> None:
    assert head_sizes(768, (set(), {12})) == [64]
    assert head_sizes(2304, (set(), {12})) == [64, 192], "queries, keys and values in one"
    assert head_sizes(192, ({64}, {9, 3})) == [64]
    assert head_sizes(1 << 15, ({64}, set())) == [], "a vocabulary"


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_lengths_of_public_arrays_are_no_less_than_they_are(seed: int, size: float) -> None:
    values = np.random.default_rng(seed).normal(0, size, (3, 5))
    for power, norm in ((2, np.linalg.norm(values, axis=-1)), (1, np.abs(values).sum(axis=-1))):
        assert norm.max() <= measured(values, (-1,), power) <= norm.max() * (1 + 1e-4)
    assert of_values(values).low == values.min()


# -- propagation -----------------------------------------------------------------------------

Grow = Callable[["Chain"], None]


class Chain:
    """A graph that grows at its end, and whose rows finally have 24 elements."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.last = rng, "x"
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.before = ["x"]

    def weight(self, *shape: int, size: float = 1.0, positive: bool = False) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.normal(0, size, shape)
        self.weights[name] = np.abs(values) + 0.1 if positive else values
        return name

    def integers(self, *values: int) -> str:
        name = f"i{len(self.weights)}"
        self.weights[name] = np.array(values, np.int64)
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        self.last = name
        return name


def _dense(c: Chain) -> None:
    width = int(c.rng.choice([24, 32]))
    c.add("MatMul", c.last, c.weight(24, width, size=c.rng.choice([0.05, 0.5, 3.0])))
    c.add("Add", c.last, c.weight(width))
    c.add("Gelu", c.last)
    c.add(
        "Gemm", c.add("Reshape", c.last, c.integers(12, width)), c.weight(24, width), c.weight(24), transB=1
    )
    c.add("Reshape", c.last, c.integers(*SHAPE))


def _attend(c: Chain) -> None:
    whole = c.add("LayerNormalization", c.last, c.weight(24, size=2.0), c.weight(24))
    heads = []
    for _ in range(3):
        c.add("Add", c.add("MatMul", whole, c.weight(24, 24)), c.weight(24))
        c.add("Reshape", c.last, c.integers(2, 6, 3, 8))
        heads.append(c.add("Transpose", c.last, perm=[0, 2, 1, 3]))
    if c.rng.integers(2):
        c.add("Attention", *heads, is_causal=int(c.rng.integers(2)))
    else:
        turned = c.add("Transpose", heads[1], perm=[0, 1, 3, 2])
        scores = c.add("Softmax", c.add("MatMul", heads[0], turned), axis=-1)
        c.add("MatMul", scores, heads[2])
    c.add("Reshape", c.add("Transpose", c.last, perm=[0, 2, 1, 3]), c.integers(*SHAPE))


def _residual(c: Chain) -> None:
    c.add(str(c.rng.choice(["Add", "Sub", "Mul"])), c.last, c.rng.choice(c.before))


def _normalise(c: Chain) -> None:
    if c.rng.integers(2):
        c.add("RMSNormalization", c.last, c.weight(24, size=3.0))
    else:
        c.add("LayerNormalization", c.last, c.weight(24), c.weight(24), axis=int(c.rng.choice([-1])))


def _activate(c: Chain) -> None:
    op = c.rng.choice(["Relu", "Gelu", "Swish", "Tanh", "Sigmoid", "Softplus", "Erf", "Mish", "HardSwish"])
    c.add(str(op), c.last)


def _element(c: Chain) -> None:
    op = str(c.rng.choice(["Abs", "Neg", "Elu", "LeakyRelu", "Sin", "Softmax", "Floor", "HardSigmoid"]))
    c.add(op, c.last)
    if c.rng.integers(2):
        c.add("Sqrt", c.add("Abs", c.last))


def _move(c: Chain) -> None:
    c.add("Transpose", c.add("Reshape", c.last, c.integers(6, 2, 8, 3)), perm=[1, 0, 3, 2])
    c.add("Reshape", c.last, c.integers(*SHAPE))


def _cut(c: Chain) -> None:
    left = c.add("Slice", c.last, c.integers(0), c.integers(16), c.integers(2))
    right = c.add("Slice", c.nodes[-1].input[0], c.integers(16), c.integers(24), c.integers(2))
    c.add("Concat", right, left, axis=2)


def _reduce(c: Chain) -> None:
    op = str(
        c.rng.choice(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceSumSquare", "ReduceL2", "ReduceL1"])
    )
    made = c.add(op, c.last, c.integers(-1), keepdims=1)
    c.add("Mul", c.nodes[-1].input[0], made)


def _compare(c: Chain) -> None:
    one, other = c.last, str(c.rng.choice(c.before))
    c.add("Where", c.add("Less", one, other), one, other)


GROWS: tuple[Grow, ...] = (
    _dense, _attend, _residual, _normalise, _activate, _element, _move, _cut, _reduce, _compare,
)  # fmt: skip


def held(plan: Plan, graph: Graph, x: np.ndarray) -> int:
    """Compare every value of the plan with its bound; return the number of values."""
    run, count = ClearRun(plan, graph, plan.client_values({"x": x})), 0
    for step in plan.steps:
        outputs = run.results(step, run.inputs(step))
        for operand, value in zip(step.call.outputs, outputs, strict=True):
            _within(step.label, operand.bound, np.asarray(value, np.float64))
            count += value.size
        run.keep(step, outputs)
    return count


def _within(what: str, bound: Bound, value: np.ndarray) -> None:
    assert value.min() >= bound.low, what
    assert value.max() <= bound.high, what
    if not value.ndim:
        return
    assert np.linalg.norm(value, axis=-1).max() <= bound.norm, what
    for size, length in bound.blocks.items():
        if value.shape[-1] % size == 0:
            assert np.linalg.norm(value.reshape(-1, size), axis=-1).max() <= length, (what, size)
    if "column" in bound.matrix and value.ndim > 1:
        assert np.linalg.norm(value, axis=-2).max() <= bound.matrix["column"], what


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_value_is_beyond_its_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = Chain(rng)
    chain.add("Add", "x", chain.weight(24))
    for _ in range(4):
        grow = GROWS[rng.integers(len(GROWS))]
        grow(chain)
        chain.before.append(chain.last)
    blueprint, graph = made(chain.nodes, chain.weights)
    blueprint = declare(replace(blueprint, checked=False), {"x": (-3.0, 3.0)})
    plan = compile_plan(blueprint, {"x": SHAPE})
    for x in (rng.uniform(-3, 3, SHAPE), np.sign(rng.normal(size=SHAPE)) * 3, np.full(SHAPE, 3.0)):
        assert held(plan, graph, x.astype(np.float32)) > 500


def test_a_bound_that_is_too_small_is_found() -> None:
    with pytest.raises(AssertionError):
        _within("", Bound(-1.0, 1.0, 1.4), np.ones((1, 2)))
    with pytest.raises(AssertionError):
        _within("", Bound(-1.0, 1.0, 2.0, {2: 1.4}), np.ones((1, 4)))


# -- use ----------------------------------------------------------------------------------------


def test_kernels_read_no_further_than_is_proved() -> None:
    rng = np.random.default_rng(0)
    chain = Chain(rng)
    _normalise(chain)
    chain.add("Gelu", chain.add("MatMul", chain.last, chain.weight(24, 24, size=0.2)))
    blueprint, _ = made(chain.nodes, chain.weights)
    blind = replace(blueprint, facts={})
    bytes_alone = Network(latency=0.0)
    plans = [compile_plan(b, {"x": SHAPE}, network=bytes_alone) for b in (blueprint, blind)]
    cost, usual = (plan.cost.bytes for plan in plans)
    assert cost < 0.9 * usual


def test_transformers_are_proved() -> None:
    blueprint, _ = prepare(MODELS / "tales" / "model.onnx")
    shapes = {name: (1, 20) for name in blueprint.inputs if name == "input_ids"}
    shapes |= {n: s.default.shape for n, s in blueprint.inputs.items() if s.default is not None}
    shapes |= {n: (1, 20) for n in blueprint.inputs if n not in shapes}
    public = {n: np.ones(shapes[n], blueprint.inputs[n].dtype) for n in blueprint.public_inputs}
    found = examined(blueprint, shapes, public)
    assert found.readings > 80
    assert found.proved == found.readings


def test_a_declared_range_proves_more_and_is_refused_beyond() -> None:
    blueprint, _ = prepare(MODELS / "digits" / "model.onnx")
    (name,) = blueprint.inputs
    shape = tuple(d if isinstance(d, int) else 1 for d in blueprint.inputs[name].shape)
    before = examined(blueprint, {name: shape}, {})
    assert before.states["checked"] > 0
    assert before.undeclared == [name]
    declared = declare_all(blueprint, {name: (0.0, 1.0)})
    assert declared.digest != blueprint.digest
    after = examined(declared, {name: shape}, {})
    assert after.proved == after.readings == before.with_ranges
    check_feed(declared, {name: np.ones(shape)})
    with pytest.raises(InputError, match=r"holds 16; the model's owner says that it lies between 0 and 1"):
        check_feed(declared, {name: np.full(shape, 16.0)})


@pytest.mark.parametrize("ranges", [{"y": (0, 1)}, {"x": (1, 0)}, {"x": (0, 1e14)}])
def test_ranges_that_are_none(ranges: dict[str, tuple[float, float]]) -> None:
    blueprint, _ = made([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones(24)})
    with pytest.raises(ConfigError):
        declare_all(blueprint, ranges)


def test_facts_are_part_of_what_is_agreed(tmp_path: Path) -> None:
    blueprint, _ = made([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(24)})
    blueprint = declare(blueprint, {"x": (-1.0, 2.0)})
    blueprint.save(tmp_path)
    read = Blueprint.read(tmp_path)
    assert (read.facts, read.declared) == (blueprint.facts, {"x": [-1.0, 2.0]})
    larger = replace(blueprint, facts={"w": {"size": 12}})
    assert larger.digest != blueprint.digest
    replace(blueprint, facts={"nobody": {"size": 12}}).save(tmp_path)
    with pytest.raises(PlanError, match="names other facts"):
        Blueprint.read(tmp_path)


def test_what_is_asked_of_factors_is_enough() -> None:
    """Rows have exactly the required length, in the direction of the longest column."""
    w = np.random.default_rng(5).normal(size=(24, 7))
    blueprint, _ = made([helper.make_node("MatMul", ["x", "w"], ["y"], name="p")], {"w": w})
    plan = compile_plan(blueprint, {"x": SHAPE})
    (need,) = plan.inputs[0].needs
    column = w[:, np.linalg.norm(w, axis=0).argmax()]
    x = np.broadcast_to(need.below * column / np.linalg.norm(column), SHAPE)
    assert 2.0**25 < np.abs(x @ w).max() < 2.0**26


def test_results_on_shares_stay_within_bounds_as_well() -> None:
    rng = np.random.default_rng(11)
    chain = Chain(rng)
    for grow in (_attend, _residual, _dense):
        grow(chain)
    arrays = [numpy_helper.from_array(v if v.dtype.kind == "i" else v.astype(np.float32), n)
              for n, v in chain.weights.items()]  # fmt: skip
    given = [helper.make_tensor_value_info("x", FLOAT, SHAPE)]
    output = helper.make_tensor_value_info(chain.last, FLOAT, None)
    graph = helper.make_graph(chain.nodes, "bounded", given, [output], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    public = [n for n, v in chain.weights.items() if v.dtype.kind == "i"]
    outcome = MemoryModel(proto, public=public).run({"x": rng.normal(size=SHAPE).astype(np.float32)})
    step = next(s for s in outcome.plan.steps if chain.last in s.outputs)
    _within("shares", step.call.outputs[0].bound, outcome.outputs[chain.last].astype(np.float64))


# -- what is kept ------------------------------------------------------------------------------


def cached(grows: bool = False) -> Blueprint:
    """A cache of normalised keys, and the newest of them; grows: each is added to the last."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "s"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "w"], ["k"], name="keys"),
        helper.make_node("Add", ["past_key", "k"], ["present_key"], name="joined")
        if grows
        else helper.make_node("Concat", ["past_key", "k"], ["present_key"], name="joined", axis=1),
        helper.make_node("ReduceSum", ["present_key"], ["y"], name="sum"),
    ]
    arrays = {"s": np.ones(24), "w": np.eye(24)}
    weights = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in arrays.items()]
    shape = SHAPE if grows else (2, "past", 24)
    given = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (("x", SHAPE), ("past_key", shape))]
    outputs = [helper.make_tensor_value_info(n, FLOAT, None) for n in ("present_key", "y")]
    graph = helper.make_graph(nodes, "cached", given, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    return settled({"": prepare_model(ir.serde.deserialize_model(proto), rewrite=False)[0]})[""]


def test_a_cache_stays_within_what_is_put_there() -> None:
    blueprint = cached()
    found = bound_of(blueprint.facts["past_key"])
    assert np.sqrt(24) <= found.norm < 1.5 * np.sqrt(24)
    assert blueprint.facts["present_key"] == blueprint.facts["past_key"]
    kept = Selection((), ("present_key",), ("past_key",))
    plan = compile_plan(blueprint, {"x": SHAPE, "past_key": (2, 100, 24)}, selection=kept)
    assert plan.verdict is None, "it is proved to stay so"
    given = replace(kept, held=())
    plan = compile_plan(blueprint, {"x": SHAPE, "past_key": (2, 100, 24)}, selection=given)
    assert plan.verdict is not None, "an array that the client gives instead is checked when it is kept"
    spec = blueprint.inputs["past_key"]
    check_filling(spec, 1, "present_key")
    with pytest.raises(InputError, match="does not accept the kept 'y'"):
        check_filling(spec, 1, "y")


def test_of_what_grows_nothing_is_known() -> None:
    assert cached(grows=True).facts.keys() == {"s", "w"}
