"""PyTorch with the weights in their files: each is read, in single precision, where a function takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from exporting.shards import Stored


class Reading(TorchFunctionMode):
    """Within it, a model on the meta device computes: a weight becomes its values where a function takes it.

    weights: weight or buffer of the model -> its place. Memory: the weights of one function, and of an
    embedding the rows that are looked up.
    """

    def __init__(self, model: torch.nn.Module, weights: Mapping[str, Stored]) -> None:
        super().__init__()
        named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        self._model = model  # keeps the tensors, and with them their identities
        self._places = {id(named[name]): place for name, place in weights.items()}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.device.__get__ and id(args[0]) in self._places:
            return torch.device("cpu")
        if getattr(function, "__name__", "") == "__get__":
            return function(*args, **kwargs)
        if function is torch.nn.functional.embedding and id(args[1]) in self._places:  # (ids, weight)
            rows = function(args[0], self._places[id(args[1])].mapped(), *args[2:], **kwargs)
            return rows.to(args[1].dtype)
        return function(*tree_map(self._values, args), **tree_map(self._values, kwargs))

    def _values(self, value: Any) -> Any:
        place = self._places.get(id(value)) if isinstance(value, torch.Tensor) else None
        return value if place is None else place.mapped().to(value.dtype)
