"""Transformers' name for the past of a decoder: `cache` since version 5.24, `past_key_values` before."""

from __future__ import annotations

import inspect
from typing import Any

_NAMES = ("cache", "past_key_values")


def past_name(model: Any) -> str | None:
    """The argument of a model's forward that takes a past; None where there is none."""
    taken = inspect.signature(model.forward).parameters
    return next((name for name in _NAMES if name in taken), None)


def given_past(model: Any, past: Any) -> dict[str, Any]:
    """The arguments that pass `past` to a model and ask for the present."""
    return {past_name(model) or _NAMES[-1]: past, "use_cache": True}


def present_of(result: Any) -> Any:
    """The present in a model's result: the past and the new part."""
    return next(result[name] for name in _NAMES if result.get(name) is not None)
