"""A graph of a few equal layers becomes one of many: the same numbers as the graph of all, or left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporting.repeat import TRACED, repeat

WIDTH, LAYERS = 4, 7
RNG = np.random.default_rng(8)
WEIGHTS = {f"model.layers.{n}.w": RNG.normal(size=(WIDTH, WIDTH)) for n in range(LAYERS)}

Node = tuple[str, str, list[str], str, dict[str, Any]]  # name, operator, inputs, output, attributes


def names(layers: int) -> tuple[list[str], list[str]]:
    pasts, presents = ([f"{what}.{n}.key" for n in range(layers)] for what in ("past", "present"))
    return ["x", *pasts], ["y", *presents]


def layer(n: int) -> list[Node]:
    """h -> h: reads its weight, its past, constants of its own and of all, and what the first layer made."""
    inner = f"model.layers.{n}"
    return [
        (f"{inner}/turn", "Transpose", [f"{inner}.w"], f"t{n}", {"perm": [1, 0]}),
        (f"{inner}.proj/product", "MatMul", [f"h{n}", f"t{n}"], f"p{n}", {}),
        (f"{inner}/past", "Concat", [f"past.{n}.key", f"p{n}"], f"present.{n}.key", {"axis": 0}),
        (f"{inner}/sum", "ReduceSum", [f"present.{n}.key", f"axes{n}"], f"s{n}", {}),
        (f"{inner}/size", "Cast", [f"l{n}"], f"f{n}", {"to": TensorProto.FLOAT}),
        (f"{inner}/mean", "ReduceMean", [f"f{n}"], f"m{n}", {"keepdims": 0}),
        (f"{inner}/beside", "Add", [f"p{n}", f"m{n}"], f"b{n}", {}),
        (f"{inner}/row", "Add", [f"b{n}", f"s{n}"], f"r{n}", {}),
        (f"{inner}/scaled", "Mul", [f"r{n}", "shared"], f"q{n}", {}),
        (f"{inner}/bounded", "Tanh", [f"q{n}"], f"h{n + 1}", {}),
    ]


def graph_of(layers: int, change: Callable[[list[Node]], None] = lambda nodes: None) -> onnx.ModelProto:
    inputs, outputs = names(layers)
    # Lengths of pasts stand in front, outside of the modules, as the exporter has them.
    nodes: list[Node] = [(f"size_{n}", "Shape", [f"past.{n}.key"], f"l{n}", {}) for n in range(layers)]
    nodes += [("model/shared", "Exp", ["half"], "shared", {}), ("model/begin", "Neg", ["x"], "h0", {})]
    for n in range(layers):
        nodes += layer(n)
    nodes.append(("model.norm/end", "Neg", [f"h{layers}"], "y", {}))
    change(nodes)
    held = {name: WEIGHTS[name].astype(np.float32) for name in list(WEIGHTS)[:layers]}
    held |= {"half": np.float32(0.5)} | {f"axes{n}": np.array([0]) for n in range(layers)}
    graph = helper.make_graph(
        [helper.make_node(op, read, [made], name, **more) for name, op, read, made, more in nodes],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n_{name}", WIDTH]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n_{name}", WIDTH]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    feed = {
        value.name: draw.normal(size=(2 + number % 3, WIDTH)).astype(np.float32)
        for number, value in enumerate(model.graph.input)
    }
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def test_the_repeated_graph_computes_what_the_whole_does() -> None:
    whole = graph_of(LAYERS)
    made = ir.from_proto(graph_of(TRACED))
    assert repeat(made.graph, LAYERS, *names(LAYERS))
    for n in range(TRACED, LAYERS):  # as an export gives weights their values
        weight = made.graph.initializers[f"model.layers.{n}.w"]
        weight.const_value = ir.tensor(WEIGHTS[str(weight.name)].astype(np.float32), name=weight.name)
    proto = ir.to_proto(made)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == names(LAYERS)[0]
    assert [value.name for value in proto.graph.output] == names(LAYERS)[1]
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node) == len(whole.graph.node)
    for found, want in zip(run(proto), run(whole), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def other_operator(nodes: list[Node]) -> None:
    place = next(n for n, node in enumerate(nodes) if node[0] == "model.layers.3/bounded")
    nodes[place] = (nodes[place][0], "Sigmoid", *nodes[place][2:])


def other_attribute(nodes: list[Node]) -> None:
    place = next(n for n, node in enumerate(nodes) if node[0] == "model.layers.3/turn")
    nodes[place] = (*nodes[place][:4], {"perm": [0, 1]})


def another_weight(nodes: list[Node]) -> None:
    next(node for node in nodes if node[0] == "model.layers.3/turn")[2][0] = "model.layers.1.w"


def an_earlier_layer(nodes: list[Node]) -> None:
    next(node for node in nodes if node[0] == "model.layers.3/row")[2][1] = "s1"


def one_more(nodes: list[Node]) -> None:
    place = next(n for n, node in enumerate(nodes) if node[0] == "model.layers.3/turn")
    nodes.insert(place, ("model.layers.3/more", "Neg", ["x"], "unread", {}))


def the_middle_is_read(nodes: list[Node]) -> None:
    nodes[-1] = ("model.norm/end", "Add", ["h4", "h2"], "y", {})


@pytest.mark.parametrize(
    "change",
    [other_operator, other_attribute, another_weight, an_earlier_layer, one_more, the_middle_is_read],
)
def test_layers_that_differ_are_left_alone(change: Callable[[list[Node]], None]) -> None:
    made = ir.from_proto(graph_of(TRACED, change))
    before = ir.to_proto(made).SerializeToString(deterministic=True)
    assert not repeat(made.graph, LAYERS, *names(LAYERS))
    assert ir.to_proto(made).SerializeToString(deterministic=True) == before
