"""`to_graph` represents the protobuf completely: nothing is lost on the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.graph.model import Initializer, Node, ValueType, to_graph
from onnxpuma.graph.protobuf import graph_proto, model_proto

TEXT = """
g (float[batch, 4] x, int64[2] shape) => (float[batch, 4] y, float[?, ?] z)
<float[4] b = {1, 2, 3, 4}, int64[1] axes = {0}>
{
    h = Add(x, b)
    y = Clip(h, , b)
    z = Reshape <allowzero = 1> (h, shape)
}
"""


def test_inputs_outputs_nodes_and_constants(parsed: Any) -> None:
    model = parsed(TEXT.replace("Clip(h, , b)", "Relu(h)"))
    graph = to_graph(ir.from_proto(model))
    assert list(graph.inputs) == ["x", "shape"]
    assert graph.inputs["x"] == ValueType(np.dtype(np.float32), ("batch", 4))
    assert not graph.inputs["x"].concrete
    assert graph.inputs["shape"].concrete
    assert graph.outputs["z"] == ValueType(np.dtype(np.float32), (None, None))
    assert [n.op for n in graph.nodes] == ["Add", "Relu", "Reshape"]
    assert graph.nodes[2].attributes == {"allowzero": 1}
    assert graph.nodes[0].version == 14
    assert graph.opset == 20
    np.testing.assert_array_equal(graph.initializers["b"].numpy(), [1, 2, 3, 4])
    assert graph.initializers["b"].size == 4
    assert graph.histogram() == {"Add": 1, "Relu": 1, "Reshape": 1}


def test_names_are_unique_and_absent_inputs_are_none() -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "top"], ["a"], name="same"),
        helper.make_node("Clip", ["a", "", ""], ["b"], name="same"),
        helper.make_node("Split", ["b"], ["y", ""], axis=0, num_outputs=2),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [4])],
        [helper.make_tensor_value_info("y", 1, [2])],
        [numpy_helper.from_array(np.float32(1), "top")],
    )
    found = to_graph(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])))
    assert [n.name for n in found.nodes] == ["same", "same_2", "Split_y"]
    assert found.nodes[0].inputs == ("x", None, "top")
    assert found.nodes[1].inputs == ("a",)
    assert found.nodes[2].outputs == ("y", "")


def test_an_input_with_an_initializer_is_a_constant(parsed: Any) -> None:
    model = parsed("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    graph = to_graph(ir.from_proto(model))
    assert list(graph.inputs) == ["x"]
    assert list(graph.initializers) == ["w"]


def test_branches_and_what_they_capture(parsed: Any) -> None:
    model = parsed(
        """
        g (bool choose, float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        {
            y = If (choose) <
                then_branch = yes () => (float[2] a) { a = Add(x, w) },
                else_branch = no () => (float[2] b) { b = Neg(x) }
            >
        }
        """
    )
    graph = to_graph(ir.from_proto(model))
    yes, no = graph.nodes[0].subgraphs
    assert {yes.captured(), no.captured()} == {("x", "w"), ("x",)}
    assert graph.captured() == ()
    assert graph.histogram() == {"Add": 1, "If": 1, "Neg": 1}


def test_attributes_of_every_kind_survive_the_way_back(parsed: Any) -> None:
    model = parsed(
        """
        g (float[1, 1, 4, 4] x) => (float[1, 1, 3, 3] y) <float[1, 1, 2, 2] w = {1, 2, 3, 4}>
        {
            c = Constant <value = float[1, 1, 1, 1] {0.5}> ()
            h = Mul(x, c)
            y = Conv <auto_pad = "VALID", strides = [1, 1], group = 1> (h, w)
        }
        """
    )
    graph = to_graph(ir.from_proto(model))
    again = to_graph(ir.from_proto(model_proto(graph_proto(graph), graph.domains)))
    assert [n.attribute_key for n in again.nodes] == [n.attribute_key for n in graph.nodes]
    assert [(n.op, n.inputs, n.outputs) for n in again.nodes] == [
        (n.op, n.inputs, n.outputs) for n in graph.nodes
    ]
    assert graph.nodes[2].attributes["auto_pad"] == "VALID"


def test_equal_attributes_have_equal_keys() -> None:
    def node(value: Any) -> Node:
        return Node("n", "Op", "", 1, ("x",), ("y",), {"a": value})

    assert node(np.ones(2)).attribute_key == node(np.ones(2)).attribute_key
    assert node(np.ones(2)).attribute_key != node(np.ones(2, np.float32)).attribute_key
    assert node([1, 2]).attribute_key != node([1.0, 2.0]).attribute_key
    assert node(1).attribute_key != node(1.0).attribute_key


def test_an_output_that_is_no_tensor_is_refused(parsed: Any) -> None:
    model = parsed("g (float[4] x) => (seq(float[?]) y) { y = SequenceConstruct(x) }")
    with pytest.raises(UnsupportedModelError, match="'y'"):
        to_graph(ir.from_proto(model))


def test_repr_of_a_weight_shows_no_values() -> None:
    weight = Initializer("w", np.dtype(np.float32), (2,), ir.tensor(np.array([12345.0, 1.0], np.float32)))
    assert "12345" not in repr(weight)
