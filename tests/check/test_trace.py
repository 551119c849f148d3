"""The comparison node by node: every kind of value, and what counts as a node's own error."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.check import trace as module
from onnxpuma.check.trace import NodeTrace, trace
from onnxpuma.errors import ModelError
from onnxpuma.graph.model import Graph
from onnxpuma.ops import registry
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.prepare import prepare_model

RNG = np.random.default_rng(2)
REAL, WHOLE = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def of_nodes(
    nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: list[str], weights: dict[str, np.ndarray]
) -> tuple[Blueprint, Graph]:
    kinds = {name: REAL if value.dtype.kind == "f" else WHOLE for name, value in inputs.items()}
    declared = [helper.make_tensor_value_info(n, kinds[n], value.shape) for n, value in inputs.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        declared,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    proto = onnx.shape_inference.infer_shapes(proto)
    return prepare_model(ir.serde.deserialize_model(proto), rewrite=False)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=outputs.split()[0], **attributes)


def every_kind() -> tuple[tuple[Blueprint, Graph], dict[str, np.ndarray]]:
    """Secret ids, parts, booleans, integers, a branch, a mask, a function, untruncated products."""
    feed = {"ids": np.array([3, 1, 4, 1]), "x": RNG.normal(size=(4, 8)).astype(np.float32)}
    then = helper.make_graph([node("Mul", "p p", "t")], "then", [], [onnx.ValueInfoProto(name="t")])
    other = helper.make_graph([node("Neg", "p", "e")], "other", [], [onnx.ValueInfoProto(name="e")])
    nodes = [
        node("Gather", "table ids", "rows"),
        node("Add", "rows x", "sum"),
        node("MatMul", "sum w", "product"),
        node("Split", "product", "p q", axis=1, num_outputs=2),
        node("Greater", "p q", "above"),
        node("Where", "above q lowest", "masked"),
        node("Softmax", "masked", "soft", axis=-1),
        node("ArgMax", "p", "places", axis=1),
        node("If", "yes", "squared", then_branch=then, else_branch=other),
        node("Softsign", "squared", "signs"),
        node("Add", "signs q", "both"),
        node("Gelu", "both", "y"),
    ]
    weights = {
        "table": RNG.normal(size=(6, 8)).astype(np.float32),
        "w": RNG.normal(size=(8, 8)).astype(np.float32),
        "lowest": np.float32(-1e9),
        "yes": np.array(True),
    }
    return of_nodes(nodes, feed, ["soft", "places", "y"], weights), feed


def test_values_of_every_kind() -> None:
    made, feed = every_kind()
    found = trace(*made, feed)
    assert found.first is None
    kinds = {n.operator for n in found.nodes}
    assert {"Gather", "Split", "Greater", "Where", "Softmax", "ArgMax", "Mul", "Gelu"} <= kinds
    assert {n.output for n in found.nodes if n.operator == "Split"} == {"p", "q"}
    assert set(found.outputs) == {"soft", "places", "y"}
    assert all(n.error < 5e-3 for n in found.nodes)
    assert not [use for n in found.nodes for use in n.outside]
    assert found.as_dict()["first"] is None


def broken(monkeypatch: pytest.MonkeyPatch, op: str, by: int) -> NodeTrace:
    """The trace of a run in which the kernel of `op` adds `by` words to its first element."""
    made, feed = every_kind()
    good = registry.operators()[op]

    def kernel(party: Any, call: Any, *values: Any) -> Any:
        results = list((yield from good.kernel(party, call, *values)))
        words = np.zeros(results[0].shape, np.uint64)
        words.reshape(-1)[0] = by
        return [results[0].plus(words), *results[1:]]

    changed = {**vars(good), "kernel": kernel}
    monkeypatch.setitem(registry._OPERATORS, op, registry.Operator(**changed))
    return trace(*made, feed)


@pytest.mark.parametrize(
    ("op", "node", "by"),
    [
        ("MatMul", "product", 1 << 31),
        ("Gelu", "y", 1 << 16),
        ("ArgMax", "places", 1),
        ("Softmax", "soft", 2000),
    ],
)
def test_the_node_at_fault_and_no_other(monkeypatch: pytest.MonkeyPatch, op: str, node: str, by: int) -> None:
    found = broken(monkeypatch, op, by)
    assert [n.node for n in found.nodes if n.departs] == [node]
    assert found.first is not None
    assert found.first.node == node
    assert found.first.outside == []


def test_what_follows_is_right_on_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found = broken(monkeypatch, "MatMul", 1 << 37)
    errors = {n.node: (n.error, n.own_error) for n in found.nodes}
    assert errors["y"][0] > 0.01 > 10 * errors["y"][1]


def test_masks_and_what_is_no_number_do_not_count() -> None:
    ours = np.array([-16384.0, -32765.0, -10000.0, 7.0, -400.0, 2.0])
    theirs = np.array([-np.inf, -1e9, -1e4, np.nan, -5.0, 2.5])
    each = [module._apart(ours[i : i + 1], theirs[i : i + 1], reach=2.0**14) for i in range(6)]
    assert each == [0, 0, 0, 0, 395, 0.5]
    assert module._apart(ours[1:2], theirs[1:2]) == 1e9 - 32765


def test_a_node_that_cannot_run_in_the_clear_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made, feed = every_kind()

    def refuse(*_: Any) -> Any:
        raise ModelError("onnxruntime does not know it", "use another")

    monkeypatch.setattr("onnxpuma.plan.examine.clear.run_node", refuse)
    monkeypatch.setattr(module, "WAIT", 5.0)
    with pytest.raises(ModelError, match="does not know"):
        trace(*made, feed)
