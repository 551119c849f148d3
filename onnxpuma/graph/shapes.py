"""Shapes of all values of a model, as far as they can be told without running it."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes

_MADE_UP = "unk__"  # how onnx calls dimensions that it has no name for


def infer(model: ir.Model) -> None:
    """Fill in, in place, what follows from the shapes that are known."""
    passes.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def infer_again(model: ir.Model) -> None:
    """`infer`, after forgetting names that were made up: of a graph that is simpler now more can be told."""
    for node in model.graph:
        for value in node.outputs:
            made_up = value.shape is not None and any(_MADE_UP in str(d) for d in value.shape)
            if made_up and not value.is_graph_output():
                value.shape = None
    infer(model)
