"""Public words that a protocol takes as an operand, so that one program stands for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from onnxpuma.mpc.ring.words import Words


@dataclass(frozen=True, slots=True, eq=False)
class PublicWords:
    """All parties have the same. A protocol computes with them, and does not look at them."""

    words: Words
