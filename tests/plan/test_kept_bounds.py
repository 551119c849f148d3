"""Bounds of what servers keep from request to request: a cache stays within what is put there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.errors import InputError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.kept_bounds import settled
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.plan.weights.facts import bound_of
from onnxpuma.roles.request.feed import check_filling
from tests.plan.bounded import FLOAT, SHAPE


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
