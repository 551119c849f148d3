"""A node that precedes what it reads, directly or in a branch, is moved behind it."""

from __future__ import annotations

import random

import onnx
import pytest
from onnx import TensorProto, helper

from onnxpuma.errors import ModelError
from onnxpuma.graph.node_order import sort_nodes


def graph(*nodes: onnx.NodeProto, output: str = "y", inputs: tuple[str, ...] = ("x", "c")) -> onnx.GraphProto:
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in inputs]
    return helper.make_graph(nodes, "g", declared, [onnx.ValueInfoProto(name=output)])


def node(output: str, *inputs: str) -> onnx.NodeProto:
    return helper.make_node("Sum", inputs, [output], name=output)


def choice(output: str, then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["c"], [output], name=output, then_branch=then, else_branch=other)


def branch(output: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    return graph(*nodes, output=output, inputs=())


def names(made: onnx.GraphProto) -> list[str]:
    return [n.name for n in made.node]


def test_what_is_in_order_stays() -> None:
    made = graph(node("b", "x"), node("a", "x"), node("y", "a", "b"))
    before = made.SerializeToString()
    sort_nodes(made, "m")
    assert made.SerializeToString() == before


def test_a_node_before_what_it_reads() -> None:
    made = graph(node("y", "b", "a"), node("b", "a"), node("e", "x"), node("a", "x"))
    sort_nodes(made, "m")
    assert names(made) == ["e", "a", "b", "y"]


def test_a_branch_that_reads_what_is_made_later() -> None:
    inner = choice("i", branch("j", node("j", "later")), branch("k", node("k", "x")))
    made = graph(
        choice("y", branch("t", node("t", "i"), inner), branch("e", node("e", "x"))), node("later", "x")
    )
    sort_nodes(made, "m")
    assert names(made) == ["later", "y"]
    assert names(
        made.node[1].attribute[0].g
        if made.node[1].attribute[0].name == "then_branch"
        else made.node[1].attribute[1].g
    ) == ["i", "t"]


def test_names_of_a_branch_are_its_own() -> None:
    made = graph(
        choice("y", branch("t", node("s", "x"), node("t", "s")), branch("e", node("e", "x"))), node("u", "y")
    )
    before = made.SerializeToString()
    sort_nodes(made, "m")
    assert made.SerializeToString() == before


def test_any_order_is_put_right() -> None:
    rng = random.Random(4)
    nodes = [node(f"v{i}", *(f"v{j}" for j in rng.sample(range(i), min(i, 2))), "x") for i in range(60)]
    rng.shuffle(nodes)
    made = graph(*nodes, output="v59")
    sort_nodes(made, "m")
    seen = {"x"}
    for one in made.node:
        assert seen.issuperset(one.input)
        seen.update(one.output)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("y", "nothing")], "'y' reads 'nothing', which is no input, initializer or output"),
        ([choice("y", branch("t", node("t", "nothing")), branch("e", node("e", "x")))], "reads 'nothing'"),
        ([node("z", "x")], "nothing produces the output 'y'"),
        ([node("y", "y")], "'y' needs its own output through 'y'"),
        ([node("y", "a"), node("a", "b"), node("b", "a")], "'a' needs its own output through 'b'"),
        ([choice("y", branch("t", node("t", "y")), branch("e", node("e", "x")))], "'y' needs its own output"),
        (
            [choice("y", branch("t", node("t", "s")), branch("e", node("s", "x"), node("e", "s")))],
            "reads 's'",
        ),
        ([choice("y", branch("t", node("t", "t")), branch("e", node("e", "x")))], "'t' needs its own output"),
    ],
)
def test_what_cannot_be_put_in_order(nodes: list[onnx.NodeProto], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        sort_nodes(graph(*nodes), "m")
    assert caught.value.hint
