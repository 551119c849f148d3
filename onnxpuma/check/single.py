"""One operator at a time: three threads run it on shares, and onnxruntime runs it in the clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnxpuma.graph.protobuf import element_type
from onnxpuma.graph.run import open_session
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.roles.local.memory import MemoryModel, MemoryRun

OPSET = 24


@dataclass
class Comparison:
    """All outputs of a run on shares and of a run in the clear."""

    all_got: list[np.ndarray]
    all_want: list[np.ndarray]
    outcome: MemoryRun

    @property
    def got(self) -> np.ndarray:
        return self.all_got[0]

    @property
    def want(self) -> np.ndarray:
        return self.all_want[0]

    @property
    def error(self) -> float:
        """The largest difference in any output."""
        pairs = zip(self.all_got, self.all_want, strict=True)
        return max(float(np.abs(g.astype(np.float64) - w).max(initial=0.0)) for g, w in pairs)


def model_of(
    op: str, inputs: Mapping[str, np.ndarray | None], outputs: int = 1, opset: int = OPSET, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; an input that is None is absent."""
    given = {name: value for name, value in inputs.items() if value is not None}
    names = [name if name in given else "" for name in inputs]
    while names and not names[-1]:
        names.pop()
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, name="node", **attributes)
    declared = [helper.make_tensor_value_info(n, element_type(v.dtype), v.shape) for n, v in given.items()]
    infos = [onnx.ValueInfoProto(name=n) for n in results]
    graph = helper.make_graph([node], "single", declared, infos)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _declare(model: onnx.ModelProto, results: Sequence[np.ndarray]) -> None:
    for output, value in zip(model.graph.output, results, strict=True):
        output.CopyFrom(helper.make_tensor_value_info(output.name, element_type(value.dtype), value.shape))


def typed(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The model with its outputs' types declared, as a run in the clear shows them."""
    _declare(model, plain(model, feed))
    return model


def plain(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of onnxruntime, or of the reference implementation if onnxruntime lacks the operator."""
    try:
        session = open_session(model.SerializeToString(), 1)
        return list(session.run(None, dict(feed)))
    except Exception:
        return list(ReferenceEvaluator(model).run(None, dict(feed)))


def compare(
    op: str,
    inputs: Mapping[str, np.ndarray | None],
    public: Sequence[str] = (),
    outputs: int = 1,
    opset: int = OPSET,
    network: Network = USUAL,
    **attributes: Any,
) -> Comparison:
    """Run one node. All inputs are secret except those in `public` and integers whose names do not start with
    "secret"."""
    model = model_of(op, inputs, outputs, opset, **attributes)
    feed = {name: value for name, value in inputs.items() if value is not None}
    hidden = [
        n for n, v in feed.items() if n not in public and (v.dtype.kind == "f" or n.startswith("secret"))
    ]
    return compare_model(model, feed, [n for n in feed if n not in hidden], network)


def compare_model(
    model: onnx.ModelProto,
    feed: Mapping[str, np.ndarray],
    public: Sequence[str] = (),
    network: Network = USUAL,
) -> Comparison:
    """The same for a small model, with every input secret except those in `public`."""
    want = plain(model, feed)
    _declare(model, want)
    secret = [n for n in feed if n not in public]
    runner = MemoryModel(
        model, public_inputs=public, secret_inputs=secret, at_client=False, rewrite=False, network=network
    )
    outcome = runner.run(feed)
    return Comparison(list(outcome.outputs.values()), want, outcome)
