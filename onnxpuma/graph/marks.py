"""Constants that are weights whatever they look like: marked on the value, and so on everything computed from
them.

Rules do not look at the value of a marked number: no decision depends on a weight's values.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

_WEIGHT = "onnxpuma.weight"
_GIVEN = "onnxpuma.given"
_SHOWN = "onnxpuma.shown"
_FEW = 16


def is_marked(value: ir.Value | None) -> bool:
    """True for a weight that was judged before the graph was rewritten, or that was computed from one."""
    return value is not None and bool(value.meta.get(_WEIGHT))


def mark(value: ir.Value) -> None:
    """Mark it as a weight."""
    value.meta[_WEIGHT] = True


def mark_given(model: ir.Model) -> None:
    """Mark every initializer as the model's own: a rule may recognise the constants it made itself by their
    values."""
    for value in model.graph.initializers.values():
        value.meta[_GIVEN] = True


def is_given(value: ir.Value | None) -> bool:
    """True for a constant that existed before any rule made one."""
    return value is not None and bool(value.meta.get(_GIVEN))


def mark_shown(model: ir.Model, weights: Collection[str]) -> None:
    """Mark all initializers but these as public, whatever becomes of them."""
    for name, value in model.graph.initializers.items():
        if name not in weights:
            value.meta[_SHOWN] = True


def is_shown(value: ir.Value | None) -> bool:
    """True for one of the model's own constants that is public."""
    return value is not None and bool(value.meta.get(_SHOWN))


def mark_numbers(model: ir.Model, weights: Collection[str]) -> None:
    """Mark those of these initializers that are few numbers; rules never read the values of larger arrays."""
    for name in weights:
        value = model.graph.initializers.get(name)
        if value is not None and value.const_value is not None and value.const_value.size <= _FEW:
            mark(value)
