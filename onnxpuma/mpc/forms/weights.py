"""Weights at one party: replicated like everything else, kept in the form that products read.

A product uses x_i + x_{i+1} and x_i (linear.py), so these two are stored and x_{i+1} is made when asked for.
"""

from __future__ import annotations

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Layout, Replicated
from onnxpuma.mpc.ring.words import Words, resized


class Weights(Replicated):
    """A replicated value whose `total` costs nothing."""

    __slots__ = ("_narrow", "_total")

    def __init__(self, party: int, first: Words, total: Words, format: Format) -> None:
        super().__init__(party, first, total, format)
        self._total = total
        self._narrow: tuple[Words, Words] | None = None

    def narrowed(self, bits: int) -> tuple[Words, Words]:
        """x_i and x_{i+1} mod 2^bits, kept: a table is looked up in at every request."""
        if self._narrow is None:
            first = resized(self.first, bits)
            self._narrow = first, resized(self._total, bits) - first
        return self._narrow

    @property
    def second(self) -> Words:
        return self._total - self.first

    @property
    def total(self) -> Words:
        return self._total

    def map(self, layout: Layout) -> Weights:
        return Weights(self.party, layout(self.first), layout(self._total), self.format)

    def with_fraction(self, fraction: int) -> Weights:
        return Weights(self.party, self.first, self._total, self.format.at(fraction))
