"""What a request takes of a kept value: a part along one axis, perhaps behind copies of its first place.

So a decoder's cache loses its last places, those of guesses that proved wrong, and keeps its length from
token to token, where copies fill it up in front: numbers like those behind them, so that they stay in the
ranges that these keep. All of it is local, and nothing is sent. What is taken is public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.mpc.forms import Replicated
from onnxpuma.standard.padding import BLOCK

MOST_COPIES = 32 * BLOCK
"""Of the first place, in front of a value."""


@dataclass(frozen=True)
class View:
    """Drops `skip` places in front, or puts -skip copies of the first one there; then takes the first places
    of that, as many as the request says. Without arguments, and with the value's own shape, it is the value
    as it is."""

    skip: int = 0
    axis: int = 0

    def shape(self, whole: tuple[int, ...], length: int) -> tuple[int, ...]:
        """The shape of `length` places of a value of shape `whole`.

        InputError for an axis that the value lacks, for a view without a place of the value or beyond its
        end, and for more than MOST_COPIES copies.
        """
        if not 0 <= self.axis < len(whole):
            raise InputError(
                f"a view goes along axis {self.axis}, the kept value has {len(whole)} axes", _TAKE_A_PART
            )
        if self.skip < -MOST_COPIES:
            raise InputError(
                f"a view puts {-self.skip} copies in front of a kept value, {MOST_COPIES} are allowed",
                _TAKE_A_PART,
            )
        first, end = max(self.skip, 0), self.skip + length
        if not first < end <= whole[self.axis]:
            raise InputError(
                f"a view takes the places {self.skip} to {end} of a kept value that has {whole[self.axis]}"
                f" along axis {self.axis}",
                _TAKE_A_PART,
            )
        return (*whole[: self.axis], length, *whole[self.axis + 1 :])

    def of_array(self, array: np.ndarray, length: int) -> np.ndarray:
        """`length` places of an array."""
        return np.asarray(self._taken(array, length))

    def of_shares(self, words: Replicated, length: int) -> Replicated:
        """`length` places of a value, from one server's shares of it."""
        found: Replicated = self._taken(words, length)
        return found

    def _taken(self, whole: Any, length: int) -> Any:
        if self.skip < 0:
            return whole.take(np.maximum(np.arange(self.skip, self.skip + length), 0), self.axis)
        return whole[(slice(None),) * self.axis + (slice(self.skip, self.skip + length),)]


WHOLE = View()

_TAKE_A_PART = "take places that the value has: `Kept.view` checks them"
