"""Outputs that a model's owner withholds for good: no client can request them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpuma.errors import ConfigError
from onnxpuma.graph.patterns import matching


def hide_outputs(model: ir.Model, patterns: Sequence[str], unmatched: set[str] | None = None) -> list[str]:
    """Remove the outputs that a pattern matches, and the nodes that serve them alone, from `model` in place;
    return their names.

    Raises ConfigError when no output would be left, and for a pattern that matches none; if `unmatched` is
    given, such patterns are added to it instead.
    """
    names = [str(value.name) for value in model.graph.outputs]
    hidden = matching("output", names, patterns, unmatched)
    if not hidden:
        return []
    left = [value for value in model.graph.outputs if value.name not in hidden]
    if not left:
        raise ConfigError(
            f"hiding {', '.join(hidden)} leaves no output", "hide only those that clients do not need"
        )
    model.graph.outputs[:] = left
    passes.RemoveUnusedNodesPass()(model)
    return hidden
