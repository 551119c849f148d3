"""Shapes of all values of a model, as far as they follow without running it."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

_MADE_UP = "unk__"  # onnx's prefix for dimensions that it has no name for


def infer(model: ir.Model) -> None:
    """Infer, in place, all shapes that follow from the known ones."""
    passes.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def infer_again(model: ir.Model) -> None:
    """`infer`, after dropping generated names: a simpler graph lets more be inferred."""
    for node in model.graph:
        for value in node.outputs:
            made_up = value.shape is not None and any(_MADE_UP in str(d) for d in value.shape)
            if made_up and not value.is_graph_output():
                value.shape = None
    infer(model)
