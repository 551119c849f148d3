"""Dropout of a model that no longer learns passes its input on."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, scalar, yes


class Dropout(Rule):
    """Dropout(x) -> x, unless the model asks for training mode"""

    title = "Dropout"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Dropout(x, _allow_other_inputs=True, _outputs=["y"])

    def check(self, context: Any, y: ir.Value, **_: Any) -> Any:
        node = y.producer()
        if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
            return no("the mask is used")
        training = node.inputs[2] if len(node.inputs) > 2 else None
        return yes() if training is None or scalar(training) == 0.0 else no("training mode")

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        return op.Identity(x)


RULES = (Dropout,)
