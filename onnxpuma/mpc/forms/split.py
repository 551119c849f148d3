"""Values seen from a pivot p and its twins u = p + 1 and v = p + 2: Split, Pair and Bit.

In replicated sharing the pivot knows two of three components and both twins know the third. So any value
is A + B, where the pivot knows A and the twins know B (docs/protocols.md, "Forms"). A zero without memory
stands for words that a party does not hold. Everything here is local: no message, no PRF word.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.form import Form, Layout
from onnxpuma.mpc.forms.replicated import Replicated
from onnxpuma.mpc.party import PIVOT, Maybe, Party, U, lazily, taken
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words, reduced, resized, word_type


def _shape_beside(words: Words, public: Words) -> tuple[int, ...]:
    return np.broadcast_shapes(words.shape, public.shape)


class Split(Form):
    """x = A + B mod 2^k; the pivot holds A, both twins hold B.

    `halves`: the twin's additive half of A, and a stand-in at the pivot. Of a Replicated value seen from the
    pivot u holds x_{p+1} and v holds x_p. None where the pivot alone knows A.
    """

    __slots__ = ("_words", "halves", "pivot", "role")

    def __init__(
        self, role: int, pivot: int, words: Maybe, format: Format, halves: Maybe | None = None
    ) -> None:
        self.role, self.pivot, self._words, self.halves, self.format = role, pivot, words, halves, format

    @property
    def words(self) -> Words:
        """A at the pivot, B at a twin."""
        return taken(self._words)

    @property
    def half(self) -> Words | None:
        return None if self.halves is None else taken(self.halves)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._words.shape

    def _halves(
        self, function: Callable[..., Words], shape: tuple[int, ...], *others: Maybe | None
    ) -> Maybe | None:
        """A linear function, with a result of this shape, of the halves of A; a stand-in at the pivot."""
        held = [self.halves, *others]
        known = [w for w in held if w is not None]
        if len(known) < len(held):
            return None
        if self.role == PIVOT:
            return nothing(shape, self.bits)
        return lazily(function, *known, shape=shape)

    def _with(
        self,
        function: Callable[[Words], Words],
        halves: Maybe | None = None,
        format: Format | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Split:
        words = lazily(function, self._words, shape=shape)
        return Split(self.role, self.pivot, words, format or self.format, halves)

    def map(
        self, function: Layout, *others: Split, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> Split:
        for other in others:
            self.beside(other)
        words = lazily(function, self._words, *[other._words for other in others], shape=shape)
        halves = self._halves(function, words.shape, *[other.halves for other in others])
        made = self.format.finer(fraction) if fraction else self.format
        return Split(self.role, self.pivot, words, made, halves)

    def lowered(self, shift: int, bits: int | None = None) -> Split:
        """x / 2^shift mod 2^bits (default k - shift), local.

        Rounded at random to one of the two neighbours, with the mean exactly x / 2^shift; multiples of
        2^shift are exact. (A is rounded up and B down.)
        """
        start, made = self.bits, self.format.lowered(shift)
        made = made if bits is None else made.modulo(bits)

        def lower(words: Words) -> Words:
            if self.role == PIVOT:
                words = words + words.dtype.type((1 << shift) - 1)
            return reduced(reduced(words, start) >> word_type(start).type(shift), made.bits)

        return self._with(lower, None, made, self.shape)

    def raised(self, shift: int, bits: int) -> Split:
        """2^shift x mod 2^bits (bits at most k + shift), local and exact."""
        by = word_type(bits).type(shift)
        made = Format(bits, self.fraction + shift)
        return self._with(lambda w: resized(w, bits) << by, None, made, self.shape)

    def modulo(self, bits: int) -> Split:
        def narrow(words: Words) -> Words:
            return resized(words, bits)

        return self._with(narrow, self._halves(narrow, self.shape), self.format.modulo(bits), self.shape)

    def plus(self, public: Words) -> Split:
        """x + public, of x's shape or one that broadcasts to it: the twins add it to B."""
        if np.broadcast_shapes(self.shape, public.shape) != self.shape:
            raise ProtocolError(f"{public.shape} added to {self}", "repeat the value first (map)")
        if self.role == PIVOT:
            return self
        return self._with(lambda w: w + public, self.halves, shape=self.shape)

    def times(self, public: Words, fraction: int = 0) -> Split:
        """x * public (words of this ring, with `fraction` bits of their own)."""
        return self.map(lambda words: words * public, fraction=fraction)

    def with_fraction(self, fraction: int) -> Split:
        """The same words read at another scale: x times 2^(old - new)."""
        return Split(self.role, self.pivot, self._words, self.format.at(fraction), self.halves)

    def opposed(self) -> Split:
        """-A at the pivot, B at the twins: equal words where x = 0."""
        words = -self.words if self.role == PIVOT else self._words
        return Split(self.role, self.pivot, words, self.format)

    def with_halves(self, halves: Maybe) -> Split:
        """The same value, where the twins hold these halves of A (`deal`)."""
        return Split(self.role, self.pivot, self._words, self.format, halves)


class Pair(Form):
    """y = y_u + y_v mod 2^k at the twins of `pivot`, which holds nothing: as a gate or a series yields it."""

    __slots__ = ("pivot", "role", "words")

    def __init__(self, role: int, pivot: int, words: Words, format: Format) -> None:
        self.role, self.pivot, self.words, self.format = role, pivot, words, format

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape

    def _local(self, function: Callable[..., Words], *others: Words, format: Format | None = None) -> Pair:
        """An elementwise function of the twins' words; at the pivot its shape alone."""
        format = format or self.format
        if self.role == PIVOT:
            words = nothing(np.broadcast_shapes(self.shape, *(w.shape for w in others)), format.bits)
        else:
            words = function(self.words, *others)
        return Pair(self.role, self.pivot, words, format)

    def map(
        self, function: Layout, *others: Pair, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> Pair:
        for other in others:
            self.beside(other)
        words = function(self.words, *[other.words for other in others])
        made = self.format.finer(fraction) if fraction else self.format
        return Pair(self.role, self.pivot, words, made)

    def __add__(self, other: Pair) -> Pair:
        self.beside(other)
        return self._local(lambda mine, theirs: mine + theirs, other.words)

    def with_fraction(self, fraction: int) -> Pair:
        """The same words read at another scale: y times 2^(old - new)."""
        return Pair(self.role, self.pivot, self.words, self.format.at(fraction))

    def plus(self, public: Words) -> Pair:
        """y + public: u adds it."""
        if self.role == U:
            return self._local(lambda words, addend: words + addend, public)
        return self._local(lambda words, addend: np.broadcast_to(words, _shape_beside(words, addend)), public)

    def plus_split(self, other: Split) -> Pair:
        """y + x for a Split of the same pivot whose A the twins hold in halves, same ring and scale."""
        self.beside(other)
        half = other.half
        if half is None:
            raise ProtocolError(f"the twins hold no halves of {other}", "deal them, or gate the value")
        if self.role == PIVOT:
            return self._local(lambda words, a: words, half)
        return self._local(lambda words, a: words + a, half + other.words if self.role == U else half)

    def times(self, public: Words, fraction: int = 0) -> Pair:
        """y * public (words of this ring, with `fraction` bits of their own)."""
        return self._local(
            lambda words, c: words * c, public, format=self.format.at(self.fraction + fraction)
        )

    def lowered(self, shift: int) -> Pair:
        """y / 2^shift mod 2^(k - shift), local; error as `Split.lowered` (u's half up, v's down)."""
        if shift == 0:
            return self
        start, made = self.bits, self.format.lowered(shift)

        def lower(words: Words) -> Words:
            if self.role == U:
                words = words + words.dtype.type((1 << shift) - 1)
            return resized(reduced(words, start) >> word_type(start).type(shift), made.bits)

        return self._local(lower, format=made)

    def raised(self, shift: int) -> Pair:
        """y at `shift` more fraction bits, in a ring of as many more bits; local and exact."""
        made = self.format.raised(shift)
        return self._local(lambda words: resized(words, made.bits) << made.word.type(shift), format=made)

    def modulo(self, bits: int) -> Pair:
        return self._local(lambda words: resized(words, bits), format=self.format.modulo(bits))


class Bit:
    """q = q_u xor q_v at the twins of `pivot`: bits packed eight to a byte over the flattened shape."""

    __slots__ = ("pivot", "plane", "role", "shape")

    def __init__(self, role: int, pivot: int, plane: Words, shape: tuple[int, ...]) -> None:
        self.role, self.pivot, self.plane, self.shape = role, pivot, plane, shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __xor__(self, other: Bit) -> Bit:
        if (self.pivot, self.shape) != (other.pivot, other.shape):
            raise ProtocolError(f"{self} xor {other}", "bits of one shape, led by one pivot")
        plane = self.plane if self.role == PIVOT else self.plane ^ other.plane
        return Bit(self.role, self.pivot, plane, self.shape)

    def __invert__(self) -> Bit:
        return Bit(self.role, self.pivot, ~self.plane if self.role == U else self.plane, self.shape)

    def __repr__(self) -> str:
        return f"Bit(shape={self.shape}, pivot={self.pivot})"


def see(party: Party, x: Replicated, pivot: int) -> Split:
    """Replicated -> Split(pivot), free."""
    role = party.role(pivot)
    if role == PIVOT:
        return Split(role, pivot, x.total, x.format, nothing(x.shape, x.bits))
    first, second = x.components
    if role == U:  # holds (x_{p+1}, x_{p+2})
        return Split(role, pivot, second, x.format, first)
    return Split(role, pivot, first, x.format, second)  # v holds (x_{p+2}, x_p)
