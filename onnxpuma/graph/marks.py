"""Constants that are weights whatever they look like: marked on the value, and so on what is made of them.

Rules do not look at the value of a number that is marked: what a weight's values are decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

_WEIGHT = "onnxpuma.weight"


def is_marked(value: ir.Value | None) -> bool:
    """True for a weight that was judged before the graph was rewritten, or that was made of one."""
    return value is not None and bool(value.meta.get(_WEIGHT))


def mark(value: ir.Value) -> None:
    """Say that it is a weight."""
    value.meta[_WEIGHT] = True


def mark_numbers(model: ir.Model, weights: Collection[str]) -> None:
    """Mark those of these initializers that are one number; of an array no rule looks at the values."""
    for name in weights:
        value = model.graph.initializers.get(name)
        if value is not None and value.const_value is not None and value.const_value.size == 1:
            mark(value)
