"""Outputs that a model's owner keeps back for good: nobody who asks the servers can have them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpuma.errors import ConfigError
from onnxpuma.graph.patterns import matching


def hide_outputs(model: ir.Model, patterns: Sequence[str], unmatched: set[str] | None = None) -> list[str]:
    """Take the outputs that a pattern matches out of `model`, in place, and what is computed for them alone:
    their names.

    Raises ConfigError when no output would be left, and for a pattern that matches none; where `unmatched`
    is given it goes there instead.
    """
    names = [str(value.name) for value in model.graph.outputs]
    hidden = matching("output", names, patterns, unmatched)
    if not hidden:
        return []
    left = [value for value in model.graph.outputs if value.name not in hidden]
    if not left:
        raise ConfigError(
            f"hiding {', '.join(hidden)} leaves no output", "hide those that clients have no need of"
        )
    model.graph.outputs[:] = left
    passes.RemoveUnusedNodesPass()(model)
    return hidden
