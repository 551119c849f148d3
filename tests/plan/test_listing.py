"""The public parts of a model are listed for its owner."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.graph.visibility import ONES
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.prepare import prepare_model


def masked() -> Blueprint:
    """x plus a causal mask, then a weight."""
    mask = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
    weight = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "mask"], ["y"])]
    border = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [5, 5]) for n in "xy"]
    arrays = [numpy_helper.from_array(mask, "mask"), numpy_helper.from_array(weight, "w")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", border[:1], border[1:], arrays),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    onnx.checker.check_model(model)
    return prepare_model(ir.serde.deserialize_model(model))[0]


def test_a_large_public_array_is_listed_with_its_first_numbers() -> None:
    (entry,) = masked().public_listing()
    assert (entry.name, entry.shape, entry.dtype) == ("mask", (5, 5), "float32")
    assert entry.preview[0] == 0
    assert len(entry.preview) == 4
    assert not entry.doubtful


def test_scales_that_were_put_in_are_not_listed() -> None:
    """Their ones reveal nothing about the model: its own scales were folded into the weights behind them."""
    rng = np.random.default_rng(0)
    sizes = {"scale": (24,), "bias": (24,), "w": (24, 5)}
    arrays = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in sizes.items()]
    norm = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["h"])
    nodes = [norm, helper.make_node("MatMul", ["h", "w"], ["y"])]
    border = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", s]) for n, s in (("x", 24), ("y", 5))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", border[:1], border[1:], arrays),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    blueprint = prepare_model(ir.serde.deserialize_model(model))[0]
    assert blueprint.visibility[f"{ONES}24"] == "public"
    assert blueprint.public_listing() == []
