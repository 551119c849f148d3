"""Weights at one party: replicated like everything else, kept in the form that products read.

A product uses x_i + x_{i+1} and x_i (linear.py): these two are stored, and x_{i+1} is computed on demand.
"""

from __future__ import annotations

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Layout, Replicated
from onnxpuma.mpc.party import Maybe
from onnxpuma.mpc.ring.words import Words, resized


class Weights(Replicated):
    """A replicated value whose `total` costs nothing."""

    __slots__ = ("_narrow", "_total")

    def __init__(self, party: int, first: Words, total: Words, format: Format) -> None:
        super().__init__(party, first, total, format)
        self._total = total
        self._narrow: tuple[Words, Words] | None = None

    def narrowed(self, bits: int) -> tuple[Words, Words]:
        """x_i and x_{i+1} mod 2^bits, cached: every request looks ids up in the same table."""
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

    @property
    def components(self) -> tuple[Maybe, Maybe]:
        return self.first, self.second

    def map(  # type: ignore[override]  # weights and other values give a plain value
        self, function: Layout, *others: Replicated, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> Replicated:
        if others:
            return super().map(function, *others, fraction=fraction, shape=shape)
        made = self.format.at(self.fraction + fraction)
        return Weights(self.party, function(self.first), function(self._total), made)

    def modulo(self, bits: int) -> Weights:
        first, total = resized(self.first, bits), resized(self._total, bits)
        return Weights(self.party, first, total, self.format.modulo(bits))

    def with_fraction(self, fraction: int) -> Weights:
        return Weights(self.party, self.first, self._total, self.format.at(fraction))
