"""Bring a model of any opset to the one the rules write: 24, the first with Attention, RMSNormalization and
Swish."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.version_converter import ConvertVersionPass

from onnxpuma.errors import UnsupportedModelError

CANONICAL = 24
# Below this, onnxscript leaves the conversion to the converter in onnx itself, one stretch up to here.
_OLDEST_FOR_ONNXSCRIPT = 18
_NUMPY_RULES = 7  # the first opset whose operators broadcast as numpy does


def raise_opset(model: ir.Model) -> None:
    """Convert `model` in place to opset 24; a newer one stays as it is.

    Raises UnsupportedModelError when onnx cannot convert one of its operators.
    """
    if "ai.onnx" in model.opset_imports:
        model.opset_imports[""] = model.opset_imports.pop("ai.onnx")
    if model.opset_imports[""] < _NUMPY_RULES:
        _slopes_by_channel(model)
    for target in (_OLDEST_FOR_ONNXSCRIPT, CANONICAL):
        before = model.opset_imports[""]
        if before >= target:
            continue
        if before < 9 and any(n.op_type == "Scan" for g in model.graphs() for n in g):
            raise UnsupportedModelError(
                f"Scan of opset {before} has a batch that later ones do not have",
                "export it again with opset 18 or later",
            )
        ConvertVersionPass(target, fallback=True)(model)
        if model.opset_imports[""] != target:
            raise UnsupportedModelError(
                f"the model cannot be brought from opset {before} to opset {target}",
                "export it again with opset 18 or later",
            )


def _slopes_by_channel(model: ir.Model) -> None:
    """Give the slopes of old PRelu nodes, one a channel, the axes that numpy's rules want; onnx's converter
    forgets to."""
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
