"""Bring a model of any opset to the one the rules write: 24, the first with Attention, RMSNormalization and
Swish."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.version_converter import ConvertVersionPass

from onnxpuma.errors import UnsupportedModelError

CANONICAL = 24
# Below this, onnxscript leaves the conversion to the converter in onnx itself, one stretch up to here.
_OLDEST_FOR_ONNXSCRIPT = 18


def raise_opset(model: ir.Model) -> None:
    """Convert `model` in place to opset 24; a newer one stays as it is.

    Raises UnsupportedModelError when onnx cannot convert one of its operators.
    """
    if "ai.onnx" in model.opset_imports:
        model.opset_imports[""] = model.opset_imports.pop("ai.onnx")
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
