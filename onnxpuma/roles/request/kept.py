"""The handle by which a client refers to an output that stays at the servers, secret-shared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

HANDLE_BYTES = 16


@dataclass(frozen=True)
class Kept:
    """Given to a later request in place of an array."""

    handle: bytes  # random; the client drew it for the request that made the value
    name: str  # of the output
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    closed: bool = False  # the model's owner lets it fill certain inputs only, and lets nobody open it

    def first(self, length: int, axis: int) -> Kept:
        """The first `length` entries along `axis`. The servers keep the whole until it is released; a request
        that continues this takes the part of it."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        return replace(self, shape=shape)
