"""No value exceeds its bound, whatever a graph does with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnxpuma.graph.model import Graph
from onnxpuma.ops.bounds import Bound
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.declared import declare
from onnxpuma.plan.examine.clear import ClearRun
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.local.memory import MemoryModel
from tests.plan.bounded import FLOAT, GROWS, SHAPE, Chain, attend, dense, made, residual


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


def test_results_on_shares_stay_within_bounds_as_well() -> None:
    rng = np.random.default_rng(11)
    chain = Chain(rng)
    for grow in (attend, residual, dense):
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
