"""Whether a model can run at all is said before the sizes of a request are known."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxpuma.errors import ConfigError, UnsupportedModelError
from onnxpuma.plan.blueprint import prepare_model
from onnxpuma.plan.support import check_supported

FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def check(nodes: list[onnx.NodeProto]) -> None:
    """A mask over `past` and `new`, whose length no example can guess, and what comes of it."""
    inputs = [
        helper.make_tensor_value_info("past", FLOAT, ["batch", "past"]),
        helper.make_tensor_value_info("new", FLOAT, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", INT, ["batch", "total"]),
    ]
    front = [
        helper.make_node("Concat", ["past", "new"], ["all"], axis=1),
        helper.make_node("Cast", ["attention_mask"], ["shown"], to=FLOAT),
        helper.make_node("Mul", ["all", "shown"], ["masked"]),
    ]
    outputs = [helper.make_tensor_value_info("y", FLOAT, ["batch", "rows"])]
    graph = helper.make_graph([*front, *nodes], "cache", inputs, outputs)
    opsets = [helper.make_opsetid("", 20)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    blueprint, _ = prepare_model(model, rewrite=False)
    check_supported(blueprint)


def test_a_shape_that_depends_on_the_request_refuses_nothing() -> None:
    check(
        [
            helper.make_node("Shape", ["masked"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("Add", ["masked", "zeros"], ["y"]),
        ]
    )


def test_behind_it_a_node_without_a_kernel_is_found_all_the_same() -> None:
    with pytest.raises(UnsupportedModelError, match="Det"):
        check([helper.make_node("Det", ["masked"], ["y"], name="determinant")])


def test_what_is_kept_and_never_opened_must_run_too() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Det", ["y"], ["state"], name="determinant"),
    ]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [2, 2])]
    outputs = [
        helper.make_tensor_value_info("y", FLOAT, [2, 2]),
        helper.make_tensor_value_info("state", FLOAT, []),
    ]
    weight = helper.make_tensor("w", FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    graph = helper.make_graph(nodes, "two", inputs, outputs, [weight])
    opsets = [helper.make_opsetid("", 20)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    blueprint, _ = prepare_model(model, rewrite=False, secret=["w"], keep_only=["state"])
    with pytest.raises(UnsupportedModelError, match="determinant"):
        check_supported(blueprint)


def test_a_graph_of_several_may_hand_on_all_it_makes() -> None:
    def encoder() -> ir.Model:
        ends = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("x", "state")]
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["state"])], "e", ends[:1], ends[1:])
        return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))

    with pytest.raises(ConfigError, match="no output could be opened"):
        prepare_model(encoder(), rewrite=False, keep_only=["state"])
    blueprint, _ = prepare_model(encoder(), rewrite=False, keep_only=["state"], unmatched=set())
    assert blueprint.own_outputs == []
    check_supported(blueprint)
