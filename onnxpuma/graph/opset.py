"""Convert a model of any opset to the one the rules write: 24, the first with Attention, RMSNormalization and
Swish."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.version_converter import ConvertVersionPass

from onnxpuma.errors import UnsupportedModelError

CANONICAL = 24
# Below this, onnxscript delegates to the converter in onnx itself, which converts in one step up to here.
_OLDEST_FOR_ONNXSCRIPT = 18
_NUMPY_RULES = 7  # the first opset whose operators broadcast as numpy does
_ALONG_ONE_AXIS = 13  # the first whose Hardmax works on one axis rather than on all axes from one on


def raise_opset(model: ir.Model) -> None:
    """Convert `model` in place to opset 24; a newer one is left unchanged.

    Raises UnsupportedModelError when onnx cannot convert one of its operators.
    """
    if "ai.onnx" in model.opset_imports:
        model.opset_imports[""] = model.opset_imports.pop("ai.onnx")
    if model.opset_imports[""] < _NUMPY_RULES:
        _slopes_by_channel(model)
    old_rows = model.opset_imports[""] < _ALONG_ONE_AXIS
    if old_rows and any(n.op_type == "Hardmax" for g in model.graphs() for n in g):
        _convert(model, _ALONG_ONE_AXIS - 1)
        _hardmax_of_rows(model)
    _convert(model, _OLDEST_FOR_ONNXSCRIPT)
    _convert(model, CANONICAL)


def _convert(model: ir.Model, target: int) -> None:
    before = model.opset_imports[""]
    if before >= target:
        return
    if before < 9 and any(n.op_type == "Scan" for g in model.graphs() for n in g):
        raise UnsupportedModelError(
            f"Scan of opset {before} has a batch, unlike later ones",
            "export it again with opset 18 or later",
        )
    ConvertVersionPass(target, fallback=True)(model)
    if model.opset_imports[""] != target:
        raise UnsupportedModelError(
            f"the model cannot be converted from opset {before} to opset {target}",
            "export it again with opset 18 or later",
        )


def _slopes_by_channel(model: ir.Model) -> None:
    """Reshape the slopes of old PRelu nodes, one a channel, for numpy's broadcasting; onnx's converter omits
    this."""
    nodes = [n for g in model.graphs() for n in g if n.op_type == "PRelu"]
    if nodes:
        passes.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    for node in nodes:
        x, slope = node.inputs
        if x is None or slope is None or x.shape is None or slope.shape is None:
            raise UnsupportedModelError(
                f"the shapes of the PRelu '{node.name}' are not known",
                "export it again with opset 18 or later",
            )
        if len(slope.shape) != 1 or slope.shape[0] == 1 or len(x.shape) < 3:
            continue
        wide = ir.node("Unsqueeze", [slope], {"axes": list(range(1, len(x.shape) - 1))})
        assert node.graph is not None
        node.graph.insert_before(node, wide)
        node.replace_input_with(1, wide.outputs[0])


def _hardmax_of_rows(model: ir.Model) -> None:
    """Flatten what old Hardmax nodes compare, all axes from one on, into one row; onnx's converter omits
    this."""
    for node in [n for g in model.graphs() for n in g if n.op_type == "Hardmax"]:
        (x,), (y,) = node.inputs, node.outputs
        assert x is not None
        assert node.graph is not None
        axis = node.attributes.get_int("axis", 1)
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
        if axis == -1:
            continue
        flat = ir.node("Flatten", [x], {"axis": axis})
        shape = ir.node("Shape", [x])
        back = ir.node("Reshape", [y, shape.outputs[0]])
        y.replace_all_uses_with(back.outputs[0], replace_graph_outputs=True)
        back.replace_input_with(0, y)
        name, back.outputs[0].type, back.outputs[0].shape = y.name, y.type, y.shape
        y.name, back.outputs[0].name, y.shape = f"{name}/row", name, None
        node.replace_input_with(0, flat.outputs[0])
        node.graph.insert_before(node, [flat, shape])
        node.graph.insert_after(node, back)
