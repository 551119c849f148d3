"""Whether a model can run at all is known before the sizes of a request."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.errors import ConfigError, UnsupportedModelError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.examine.support import check_supported, fitting_shapes
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model

FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def check(nodes: list[onnx.NodeProto]) -> None:
    """Check a model with a mask over `past` and `new`, whose length no example can guess."""
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
    blueprint, _ = prepare_model(model, Policy(secret=["w"], keep_only=["state"]), rewrite=False)
    with pytest.raises(UnsupportedModelError, match="determinant"):
        check_supported(blueprint)


def test_a_graph_of_several_may_hand_on_all_it_makes() -> None:
    def encoder() -> ir.Model:
        ends = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("x", "state")]
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["state"])], "e", ends[:1], ends[1:])
        return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))

    with pytest.raises(ConfigError, match="no output could be opened"):
        prepare_model(encoder(), Policy(keep_only=["state"]), rewrite=False)
    blueprint, _ = prepare_model(encoder(), Policy(keep_only=["state"]), rewrite=False, unmatched=set())
    assert blueprint.own_outputs == []
    check_supported(blueprint)


def waveform(*kernels: int, masked: bool = False) -> Blueprint:
    """Strided convolutions over a recording, as at the start of speech models."""
    nodes = [helper.make_node("Unsqueeze", ["wave", "axis"], ["h"])]
    arrays = {"axis": np.array([1])}
    for place, kernel in enumerate(kernels):
        arrays[f"w{place}"] = np.ones((1, 1, kernel), np.float32)
        nodes.append(
            helper.make_node("Conv", [nodes[-1].output[0], f"w{place}"], [f"h{place}"], strides=[kernel // 2])
        )
    nodes.append(helper.make_node("Tanh", [nodes[-1].output[0]], ["y"]))
    inputs = [helper.make_tensor_value_info("wave", FLOAT, ["batch", "samples"])]
    if masked:
        inputs.append(helper.make_tensor_value_info("attention_mask", INT, ["batch", "samples"]))
    outputs = [helper.make_tensor_value_info("y", FLOAT, ["batch", 1, "frames"])]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "speech", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return prepare_model(ir.from_proto(made))[0]


@pytest.mark.parametrize("masked", [False, True])
def test_a_recording_is_long_enough_for_the_windows(masked: bool) -> None:
    blueprint = waveform(64, 8, 4, masked=masked)
    assert fitting_shapes(blueprint, {})["wave"] == (1, 2048)
    assert fitting_shapes(blueprint, {"samples": 100})["wave"] == (1, 100)
    assert fitting_shapes(waveform(16), {})["wave"] == (1, 32)
    check_supported(blueprint)
    check_supported(blueprint, {"samples": 1000})
    with pytest.raises(ConfigError, match="no dimension 'words'"):
        check_supported(blueprint, {"words": 3})


def test_no_length_fits_a_window_that_is_larger_than_all() -> None:
    assert fitting_shapes(waveform(40_000), {})["wave"] == (1, 131072)
    assert fitting_shapes(waveform(140_000), {})["wave"] == (1, 32)
