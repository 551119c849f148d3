"""The handle by which a client refers to an output that stays at the servers, secret-shared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.roles.request.view import WHOLE, View

HANDLE_BYTES = 16


@dataclass(frozen=True)
class Kept:
    """Given to a later request in place of an array."""

    handle: bytes  # random; the client drew it for the request that made the value
    name: str  # of the output
    shape: tuple[int, ...]  # of what is taken
    dtype: np.dtype[Any]
    closed: bool = False  # the model's owner lets it fill certain inputs only, and lets nobody open it
    taken: View = WHOLE  # of the value that the servers keep

    def view(self, skip: int, length: int, axis: int) -> Kept:
        """`length` entries along `axis`, from `skip` on; below zero, behind so many copies of the first
        one (view.py).

        The servers keep the whole until it is released; a request that continues this takes the part of it.
        Raises InputError for a part that the value does not have.
        """
        if self.taken != WHOLE:
            raise InputError("this is a part of a kept value already", "take a view of the whole value")
        view = View(skip, axis)
        return replace(self, shape=view.shape(self.shape, length), taken=view)
