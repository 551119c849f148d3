"""Constants that are weights whatever they look like: marked on the value, and so on what is made of them.

Rules do not look at the value of a number that is marked: what a weight's values are decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

_WEIGHT = "onnxpuma.weight"
_GIVEN = "onnxpuma.given"
_SHOWN = "onnxpuma.shown"
_FEW = 16


def is_marked(value: ir.Value | None) -> bool:
    """True for a weight that was judged before the graph was rewritten, or that was made of one."""
    return value is not None and bool(value.meta.get(_WEIGHT))


def mark(value: ir.Value) -> None:
    """Say that it is a weight."""
    value.meta[_WEIGHT] = True


def mark_given(model: ir.Model) -> None:
    """Say of every initializer that it is the model's own: a rule may know its own ones by their values."""
    for value in model.graph.initializers.values():
        value.meta[_GIVEN] = True


def is_given(value: ir.Value | None) -> bool:
    """True for a constant that was there before any rule made one."""
    return value is not None and bool(value.meta.get(_GIVEN))


def mark_shown(model: ir.Model, weights: Collection[str]) -> None:
    """Say of all initializers but these that they are public, whatever becomes of them."""
    for name, value in model.graph.initializers.items():
        if name not in weights:
            value.meta[_SHOWN] = True


def is_shown(value: ir.Value | None) -> bool:
    """True for a constant of the model's own that is public."""
    return value is not None and bool(value.meta.get(_SHOWN))


def mark_numbers(model: ir.Model, weights: Collection[str]) -> None:
    """Mark those of these initializers that are few numbers; of a larger array no rule looks at values."""
    for name in weights:
        value = model.graph.initializers.get(name)
        if value is not None and value.const_value is not None and value.const_value.size <= _FEW:
            mark(value)
