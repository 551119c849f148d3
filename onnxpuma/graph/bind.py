"""Fix inputs of a model to given values: a merged decoder becomes the branch that is meant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxpuma.errors import ConfigError


def bind(model: ir.Model, values: Mapping[str, np.ndarray | bool | int | float]) -> None:
    """Make constants of the inputs named in `values`; `canonicalise` then takes the branches they choose.

    An If on a constant is replaced by its branch, so {"use_cache_branch": True} leaves of a merged decoder
    the one with a cache. Raises ConfigError for a name that is no input, and for a value whose kind or shape
    is not the input's.
    """
    inputs = {v.name: v for v in model.graph.inputs}
    for name, given in values.items():
        value = inputs.get(name)
        if value is None:
            raise ConfigError(
                f"no input is named '{name}'", f"the model's inputs are {', '.join(map(str, inputs))}"
            )
        wanted = np.dtype(value.dtype.numpy()) if value.dtype is not None else np.asarray(given).dtype
        array = np.asarray(given)
        if array.dtype.kind != wanted.kind:
            raise ConfigError(
                f"input '{name}' holds {wanted}, not {array.dtype}", "give a value of that kind"
            )
        array = _fitted(array.astype(wanted), value)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        model.graph.register_initializer(value)


def _fitted(array: np.ndarray, value: ir.Value) -> np.ndarray:
    """A single number takes the input's shape, where that is known."""
    if value.shape is None:
        return array
    dims = [d if isinstance(d, int) else None for d in value.shape]
    if array.ndim == 0 and None not in dims:
        return np.full([d for d in dims if d is not None], array)
    if len(dims) != array.ndim or any(d not in (None, n) for d, n in zip(dims, array.shape, strict=True)):
        raise ConfigError(
            f"input '{value.name}' has shape {list(value.shape)}, not {list(array.shape)}",
            "give a value of that shape",
        )
    return array
