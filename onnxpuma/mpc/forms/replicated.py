"""Values that no pivot leads: Replicated, two components at each party, and Sum3, one term at each.

Everything here is local: no message, no PRF word.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.form import Form, Layout
from onnxpuma.mpc.party import Later, Maybe, lazily, taken
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words, reduced, resized, word_type


class Replicated(Form):
    """x = x_0 + x_1 + x_2 mod 2^k; P_i holds `first` = x_i and `second` = x_{i+1}."""

    __slots__ = ("_first", "_second", "party")

    def __init__(self, party: int, first: Maybe, second: Maybe, format: Format) -> None:
        self.party, self._first, self._second, self.format = party, first, second, format

    @property
    def first(self) -> Words:
        return taken(self._first)

    @property
    def second(self) -> Words:
        return taken(self._second)

    @property
    def total(self) -> Words:
        """x_i + x_{i+1}: the pivot's part A of x, where this party is the pivot."""
        return self.first + self.second

    @property
    def blend(self) -> Words:
        """Its factor of a doubled product (linear.py): x_0 - x_1, 2 x_1 + x_2 or x_2 + 2 x_0."""
        first, second = self.first, self.second
        if self.party == 0:
            return first - second
        return first + first + second if self.party == 1 else first + second + second

    @property
    def shape(self) -> tuple[int, ...]:
        return self._first.shape

    @property
    def pending(self) -> bool:
        return any(isinstance(w, Later) and w.pending for w in (self._first, self._second))

    def _with(self, first: Maybe, second: Maybe, format: Format | None = None) -> Replicated:
        return Replicated(self.party, first, second, format or self.format)

    @property
    def components(self) -> tuple[Maybe, Maybe]:
        """x_i and x_{i+1}, of which either may still be on its way."""
        return self._first, self._second

    def map(
        self, function: Layout, *others: Replicated, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> Replicated:
        firsts, seconds = [self.components[0]], [self.components[1]]
        for other in others:
            self.beside(other)
            first, second = other.components
            firsts.append(first)
            seconds.append(second)
        made = self.format.finer(fraction) if fraction else self.format
        first, second = lazily(function, *firsts, shape=shape), lazily(function, *seconds, shape=shape)
        return Replicated(self.party, first, second, made)

    def as_sum(self) -> Sum3:
        """The same value, of which P_i gives x_i."""
        return Sum3(self.party, self.first, self.format)

    def arrived(self) -> Replicated:
        """The same value, whose words must have arrived: it outlives the party that received them."""
        return self._with(self.first, self.second)

    def with_fraction(self, fraction: int) -> Replicated:
        """The same words read at another scale: x times 2^(old - new)."""
        return self._with(self._first, self._second, self.format.at(fraction))

    def plus(self, public: Words) -> Replicated:
        """x + public (words of this ring): component 0 takes it."""
        first, second = self.first, self.second
        shape = np.broadcast_shapes(first.shape, public.shape)
        return self._with(
            first + public if self.party == 0 else np.broadcast_to(first, shape),
            second + public if self.party == 2 else np.broadcast_to(second, shape),
        )

    def times(self, public: Words, fraction: int = 0) -> Replicated:
        """x * public (words of this ring, with `fraction` bits of their own)."""
        return self._with(self.first * public, self.second * public, self.format.at(self.fraction + fraction))

    def lowered(self, shift: int) -> Replicated:
        """x / 2^shift mod 2^(k - shift), local: the ring shrinks as well, so no error is large.

        The error is below 1.5 units in the last place and its mean below 2^-shift of one.
        """
        if shift == 0:
            return self
        first = _shifted(self.first, self.party, shift, self.bits)
        second = _shifted(self.second, (self.party + 1) % 3, shift, self.bits)
        return self._with(first, second, self.format.lowered(shift))

    def raised(self, shift: int) -> Replicated:
        """x at `shift` more fraction bits, in a ring of as many more bits; local and exact."""
        made = self.format.raised(shift)
        by = made.word.type(shift)
        first, second = resized(self.first, made.bits) << by, resized(self.second, made.bits) << by
        return self._with(first, second, made)

    def modulo(self, bits: int) -> Replicated:
        """x mod 2^bits; local: each component loses its high bits."""
        return self._with(resized(self.first, bits), resized(self.second, bits), self.format.modulo(bits))


class Sum3(Form):
    """z = z_0 + z_1 + z_2 mod 2^k; P_i holds z_i. A product before its truncation.

    Each party computes its term from its shares, so the terms are not uniform. A protocol that sends them
    (convert.py) first adds a fresh zero-share. A Sum3 may therefore be used any number of times, repeated by
    a layout, and added to others.
    """

    __slots__ = ("party", "words")

    def __init__(self, party: int, words: Words, format: Format) -> None:
        self.party, self.words, self.format = party, words, format

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape

    def _with(self, words: Words, format: Format | None = None) -> Sum3:
        return Sum3(self.party, words, format or self.format)

    def map(
        self, function: Layout, *others: Sum3, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> Sum3:
        for other in others:
            self.beside(other)
        words = function(self.words, *[other.words for other in others])
        return Sum3(self.party, words, self.format.finer(fraction) if fraction else self.format)

    def as_sum(self) -> Sum3:
        return self

    def with_fraction(self, fraction: int) -> Sum3:
        """The same words read at another scale: z times 2^(old - new)."""
        return self._with(self.words, self.format.at(fraction))

    def plus(self, public: Words) -> Sum3:
        """z + public (words of this ring): P_0 adds it."""
        if self.party == 0:
            return self._with(self.words + public)
        return self._with(np.broadcast_to(self.words, np.broadcast_shapes(self.shape, public.shape)))

    def plus_shared(self, other: Replicated, sign: int = 1) -> Sum3:
        """z + x (or z - x), x scaled up to this value's fraction bits: P_i adds its x_i."""
        if self.bits != other.bits or self.fraction < other.fraction:
            raise ProtocolError(f"{other} added to {self}", "scale the sum up first (times)")
        term = other.first << other.first.dtype.type(self.fraction - other.fraction)
        return self._with(self.words + term if sign > 0 else self.words - term)

    def times(self, public: Words, fraction: int = 0) -> Sum3:
        """z * public (words of this ring, with `fraction` bits of their own)."""
        return self._with(self.words * public, self.format.at(self.fraction + fraction))

    def lowered(self, shift: int) -> Sum3:
        """z / 2^shift mod 2^(k - shift), local; the error of `Replicated.lowered` on uniform terms."""
        if shift == 0:
            return self
        words = _shifted(self.words, self.party, shift, self.bits)
        return self._with(words, self.format.lowered(shift))

    def modulo(self, bits: int) -> Sum3:
        return self._with(resized(self.words, bits), self.format.modulo(bits))


def trivial(party: int, values: npt.ArrayLike, format: Format) -> Replicated:
    """Public numbers as the shares (values, 0, 0)."""
    words = format.encode(values)
    none = nothing(words.shape, format.bits)
    return Replicated(party, words if party == 0 else none, words if party == 2 else none, format)


def zeros(party: int, shape: tuple[int, ...], format: Format) -> Replicated:
    """Zeros that take no memory."""
    none = nothing(shape, format.bits)
    return Replicated(party, none, none, format)


def _shifted(words: Words, component: int, shift: int, bits: int) -> Words:
    """One of three terms, shifted; term 0 adds back the 1.5 units that three floors lose on average."""
    if component == 0:
        words = words + words.dtype.type(3 * ((1 << shift) - 1) // 2)
    return resized(reduced(words, bits) >> word_type(bits).type(shift), bits - shift)
