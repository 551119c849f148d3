"""Fixtures of the plan's tests: a small model with secret constants, run on shares and in the clear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.local.memory import MemoryModel

OPSET = 24
Constants = Mapping[str, np.ndarray | np.generic]


@dataclass
class Ran:
    """A run on shares, and its largest error relative to the largest number of onnxruntime's result."""

    error: float
    blueprint: Blueprint
    plan: Plan

    @property
    def public(self) -> set[str]:
        """Constants that everybody sees."""
        return {name for name, seen in self.blueprint.visibility.items() if seen == "public"}

    @property
    def operators(self) -> list[str]:
        """The operators that run on shares, in order."""
        return [step.operator.name for step in self.plan.steps]


OnShares = Callable[..., Ran]


def model_of(
    nodes: Sequence[onnx.NodeProto], constants: Constants, feed: Mapping[str, np.ndarray]
) -> tuple[onnx.ModelProto, np.ndarray]:
    """A model from `feed` to `y`, and onnxruntime's results on the unchanged nodes."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feed.items()
    ]
    graph = helper.make_graph(list(nodes), "g", given, [onnx.ValueInfoProto(name="y")], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    (want,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(["y"], dict(feed))
    kind = helper.np_dtype_to_tensor_dtype(want.dtype)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, want.shape))
    return model, want


@pytest.fixture(params=[False, True], ids=["on shares", "at the client"])
def on_shares(request: pytest.FixtureRequest) -> OnShares:
    """on_shares(nodes, constants, feed, secret=patterns): checks type, shape and cost; runs once with
    everything on shares, once with the client computing what it can."""

    def run(
        nodes: Sequence[onnx.NodeProto],
        constants: Constants,
        feed: Mapping[str, np.ndarray],
        secret: Sequence[str] = ("*",),
        public: Sequence[str] = (),
        at_client: bool = request.param,
        public_inputs: Sequence[str] = (),
    ) -> Ran:
        model, want = model_of(nodes, constants, feed)
        shared = MemoryModel(
            model, secret=secret, public=public, public_inputs=public_inputs, at_client=at_client
        )
        outcome = shared.run(feed)
        got = outcome.outputs["y"]
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert outcome.cost == outcome.plan.cost
        apart = np.abs(got.astype(np.float64) - want).max()
        return Ran(float(apart / np.abs(want).max()), shared.blueprint, outcome.plan)

    return run
