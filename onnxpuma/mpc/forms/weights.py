"""Weights at one party: replicated like everything else, kept in the form that products read.

Products use one component and the blend (linear.py), which are stored; everything else is computed on demand.
"""

from __future__ import annotations

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Layout, Replicated
from onnxpuma.mpc.ring.words import Words, resized


class Weights(Replicated):
    """A replicated value whose `blend` costs nothing, beside a component that is `kept`.

    That is x_i, but x_{i+1} at P_2: the blend contains the other component once, so both are known.
    """

    __slots__ = ("_blend", "_narrow", "kept")

    def __init__(self, party: int, kept: Words, blend: Words, format: Format) -> None:
        super().__init__(party, kept, blend, format)
        self.kept, self._blend = kept, blend
        self._narrow: tuple[Words, Words] | None = None

    @classmethod
    def of(cls, x: Replicated) -> Weights:
        """The value in this form; it takes over one component and computes an array of the other's size."""
        return cls(x.party, x.second if x.party == 2 else x.first, x.blend, x.format)

    def narrowed(self, bits: int) -> tuple[Words, Words]:
        """x_i and x_{i+1} mod 2^bits, cached: every request looks ids up in the same table."""
        if self._narrow is None:
            self._narrow = _components(self.party, resized(self.kept, bits), resized(self._blend, bits))
        return self._narrow

    @property
    def first(self) -> Words:
        return self.kept if self.party != 2 else self.components[0]

    @property
    def second(self) -> Words:
        return self.kept if self.party == 2 else self.components[1]

    @property
    def total(self) -> Words:
        first, second = self.components
        return first + second

    @property
    def blend(self) -> Words:
        return self._blend

    @property
    def components(self) -> tuple[Words, Words]:
        return _components(self.party, self.kept, self._blend)

    def factors(self, other: Replicated) -> tuple[Words, Words]:
        """What to multiply `kept` and `blend` with, so that the sum is this party's term of the product with
        another value."""
        first, second = other.first, other.second
        if self.party == 0:  # x_0 (2 kept - blend) + x_1 kept
            return first + first + second, -first
        if self.party == 1:  # x_1 (blend - kept) + x_2 kept
            return second - first, first
        return -(first + second + second), first + second  # x_2 (blend - kept) + x_0 (blend - 2 kept)

    def map(  # type: ignore[override]  # weights and other values give a plain value
        self, function: Layout, *others: Replicated, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> Replicated:
        if others:
            return super().map(function, *others, fraction=fraction, shape=shape)
        made = self.format.at(self.fraction + fraction)
        return Weights(self.party, function(self.kept), function(self._blend), made)

    def modulo(self, bits: int) -> Weights:
        kept, blend = resized(self.kept, bits), resized(self._blend, bits)
        return Weights(self.party, kept, blend, self.format.modulo(bits))

    def with_fraction(self, fraction: int) -> Weights:
        return Weights(self.party, self.kept, self._blend, self.format.at(fraction))


def _components(party: int, kept: Words, blend: Words) -> tuple[Words, Words]:
    """x_i and x_{i+1} of a blend: x_0 - x_1, 2 x_1 + x_2 or x_2 + 2 x_0."""
    if party == 0:
        return kept, kept - blend
    other = blend - kept
    other -= kept
    return (kept, other) if party == 1 else (other, kept)
