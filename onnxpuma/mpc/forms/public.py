"""Public words that a protocol takes as an operand, so that one program stands for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.ring.words import Words, from_integers


@dataclass(frozen=True, slots=True, eq=False)
class PublicWords:
    """All parties have the same. A protocol computes with them (`Form.times_public`), and does not look at
    them."""

    words: Words

    @classmethod
    def of(cls, integers: npt.ArrayLike, bits: int) -> PublicWords:
        """Integers mod 2^bits."""
        return cls(from_integers(integers, bits))

    def spread(self, shape: tuple[int, ...]) -> PublicWords:
        """Broadcast to this shape, and then flat."""
        return PublicWords(np.broadcast_to(self.words, shape).reshape(-1))

    def __getitem__(self, part: slice) -> PublicWords:
        return PublicWords(self.words[part])
