"""The forms of a secret value (protocols.md, section 2) and what is local on each of them.

Every form is an array: `map` applies a layout function (reshape, transpose, slice ...) to whatever words
this party holds. A form's repr prints its shape, never its words. `bits` is the ring width k and
`fraction` the fixed-point scale f. Words a party does not hold are a zero without memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.mpc.party import PIVOT, U, V, Later, Maybe, Party, lazily, nothing, taken
from onnxpuma.mpc.words import Words, reduced, resized, word_type

Layout: TypeAlias = Callable[[Any], Any]


def _pending(words: Maybe) -> bool:
    return isinstance(words, Later) and words.pending


class Form:
    """What the forms have in common: a shape, a ring and a scale."""

    __slots__ = ("bits", "fraction")
    bits: int
    fraction: int

    @property
    def shape(self) -> tuple[int, ...]:
        raise AssertionError("a form has a shape")

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, bits={self.bits}, fraction={self.fraction})"


class Replicated(Form):
    """x = x_0 + x_1 + x_2 mod 2^k; P_i holds `first` = x_i and `second` = x_{i+1}."""

    __slots__ = ("_first", "_second", "party")

    def __init__(self, party: int, first: Maybe, second: Maybe, bits: int, fraction: int) -> None:
        self.party, self._first, self._second, self.bits, self.fraction = party, first, second, bits, fraction

    @property
    def first(self) -> Words:
        return taken(self._first)

    @property
    def second(self) -> Words:
        return taken(self._second)

    @property
    def total(self) -> Words:
        """x_i + x_{i+1}: what this party knows of x when it is the pivot."""
        return self.first + self.second

    @property
    def shape(self) -> tuple[int, ...]:
        return self._first.shape

    @property
    def pending(self) -> bool:
        return _pending(self._first) or _pending(self._second)

    def map(self, layout: Layout) -> Replicated:
        return Replicated(
            self.party, lazily(layout, self._first), lazily(layout, self._second), self.bits, self.fraction
        )

    def with_fraction(self, fraction: int) -> Replicated:
        """The same words read at another scale: x times 2^(old - new)."""
        return Replicated(self.party, self._first, self._second, self.bits, fraction)

    def __add__(self, other: Replicated) -> Replicated:
        return Replicated(
            self.party, self.first + other.first, self.second + other.second, self.bits, self.fraction
        )

    def __sub__(self, other: Replicated) -> Replicated:
        return Replicated(
            self.party, self.first - other.first, self.second - other.second, self.bits, self.fraction
        )

    def __neg__(self) -> Replicated:
        zero = word_type(self.bits).type(0)
        return Replicated(self.party, zero - self.first, zero - self.second, self.bits, self.fraction)

    def plus(self, public: Words) -> Replicated:
        """x + public (words of this ring): component 0 takes it."""
        first, second = self.first, self.second
        shape = np.broadcast_shapes(first.shape, public.shape)
        if self.party == 0:
            return Replicated(
                self.party, first + public, np.broadcast_to(second, shape), self.bits, self.fraction
            )
        if self.party == 2:
            return Replicated(
                self.party, np.broadcast_to(first, shape), second + public, self.bits, self.fraction
            )
        return Replicated(
            self.party,
            np.broadcast_to(first, shape),
            np.broadcast_to(second, shape),
            self.bits,
            self.fraction,
        )

    def times(self, public: Words, fraction: int = 0) -> Replicated:
        """x * public (words of this ring, with `fraction` bits of their own)."""
        return Replicated(
            self.party, self.first * public, self.second * public, self.bits, self.fraction + fraction
        )

    def lowered(self, shift: int) -> Replicated:
        """x / 2^shift mod 2^(k - shift), local: the ring shrinks as well, so no large error.

        Three floors lose 1.5 units on average, which the added constant makes good: the error is below
        1.5 units in the last place and its mean is zero.
        """
        if shift == 0:
            return self
        bits = self.bits - shift
        parts = []
        for words, component in ((self.first, self.party), (self.second, (self.party + 1) % 3)):
            if component == 0:
                words = words + words.dtype.type(3 << (shift - 1))
            parts.append(resized(reduced(words, self.bits) >> word_type(self.bits).type(shift), bits))
        return Replicated(self.party, parts[0], parts[1], bits, self.fraction - shift)

    def raised(self, shift: int) -> Replicated:
        """x at `shift` more fraction bits, in a ring of as many more bits; local and exact."""
        bits = self.bits + shift
        by = word_type(bits).type(shift)
        return Replicated(
            self.party,
            resized(self.first, bits) << by,
            resized(self.second, bits) << by,
            bits,
            self.fraction + shift,
        )

    def modulo(self, bits: int) -> Replicated:
        """x mod 2^bits, local: the high bits of each component are dropped."""
        return Replicated(
            self.party, resized(self.first, bits), resized(self.second, bits), bits, self.fraction
        )


class Sum3(Form):
    """z = z_0 + z_1 + z_2 mod 2^k; P_i holds z_i, masked by a zero-share. A product before its truncation."""

    __slots__ = ("party", "words")

    def __init__(self, party: int, words: Words, bits: int, fraction: int) -> None:
        self.party, self.words, self.bits, self.fraction = party, words, bits, fraction

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape

    def map(self, layout: Layout) -> Sum3:
        return Sum3(self.party, layout(self.words), self.bits, self.fraction)

    def plus(self, public: Words) -> Sum3:
        words = (
            self.words + public
            if self.party == 0
            else np.broadcast_to(self.words, np.broadcast_shapes(self.shape, public.shape))
        )
        return Sum3(self.party, words, self.bits, self.fraction)

    def plus_shared(self, other: Replicated, sign: int = 1) -> Sum3:
        """z + x (or z - x), x scaled up to this value's fraction bits: P_i adds its x_i."""
        term = other.first << other.first.dtype.type(self.fraction - other.fraction)
        return Sum3(
            self.party, self.words + term if sign > 0 else self.words - term, self.bits, self.fraction
        )

    def __add__(self, other: Sum3) -> Sum3:
        return Sum3(self.party, self.words + other.words, self.bits, self.fraction)

    def __sub__(self, other: Sum3) -> Sum3:
        return Sum3(self.party, self.words - other.words, self.bits, self.fraction)

    def __neg__(self) -> Sum3:
        return Sum3(self.party, self.words.dtype.type(0) - self.words, self.bits, self.fraction)

    def times(self, public: Words, fraction: int = 0) -> Sum3:
        return Sum3(self.party, self.words * public, self.bits, self.fraction + fraction)

    def lowered(self, shift: int) -> Sum3:
        """z / 2^shift mod 2^(k - shift), local; error below 1.5 units, mean zero (see Replicated.lowered)."""
        if shift == 0:
            return self
        words = self.words
        if self.party == 0:
            words = words + words.dtype.type(3 << (shift - 1))
        words = resized(reduced(words, self.bits) >> word_type(self.bits).type(shift), self.bits - shift)
        return Sum3(self.party, words, self.bits - shift, self.fraction - shift)

    def modulo(self, bits: int) -> Sum3:
        return Sum3(self.party, resized(self.words, bits), bits, self.fraction)


class Split(Form):
    """x = A + B mod 2^k; the pivot holds A, both twins hold B.

    `halves`: the twin's additive half of A, where the twins have one (a Replicated value seen from the
    pivot: u holds x_{p+1} and v holds x_p), a stand-in at the pivot; None where A is the pivot's alone.
    """

    __slots__ = ("_words", "halves", "pivot", "role")

    def __init__(
        self, role: int, pivot: int, words: Maybe, bits: int, fraction: int, halves: Maybe | None = None
    ) -> None:
        self.role, self.pivot, self._words, self.bits, self.fraction, self.halves = (
            role,
            pivot,
            words,
            bits,
            fraction,
            halves,
        )

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

    def _halves(self, function: Layout, *others: Maybe | None) -> Maybe | None:
        """A local linear function of the twins' halves of A; a stand-in at the pivot."""
        if self.halves is None or any(other is None for other in others):
            return None
        if self.role == PIVOT:
            operands = [self.halves, *others]
            shape = function(*(nothing(w.shape, 8) for w in operands if w is not None)).shape
            return nothing(shape, self.bits)
        return lazily(function, self.halves, *(other for other in others if other is not None))

    def map(self, layout: Layout) -> Split:
        halves = self._halves(layout)
        return Split(self.role, self.pivot, lazily(layout, self._words), self.bits, self.fraction, halves)

    def _local(self, words: Callable[[Words], Words], bits: int, fraction: int) -> Split:
        return Split(self.role, self.pivot, lazily(words, self._words), bits, fraction)

    def lowered(self, shift: int, bits: int | None = None) -> Split:
        """x / 2^shift mod 2^bits (default k - shift), local; error below one unit, mean zero."""
        kind, start = word_type(self.bits), self.bits
        bits = start - shift if bits is None else bits

        def lower(words: Words) -> Words:
            if shift and self.role == PIVOT:
                words = words + words.dtype.type(1 << shift)
            return reduced(reduced(words, start) >> kind.type(shift), bits)

        return self._local(lower, bits, self.fraction - shift)

    def raised(self, shift: int, bits: int) -> Split:
        """2^shift x mod 2^bits (bits at most k + shift), local and exact."""
        by = word_type(bits).type(shift)
        return self._local(lambda words: resized(words, bits) << by, bits, self.fraction + shift)

    def modulo(self, bits: int) -> Split:
        halves = self._halves(lambda w: resized(w, bits))
        return Split(
            self.role,
            self.pivot,
            lazily(lambda w: resized(w, bits), self._words),
            bits,
            self.fraction,
            halves,
        )

    def plus(self, public: Words) -> Split:
        """x + public: the twins add it to B."""
        if self.role == PIVOT:
            return self
        return Split(
            self.role,
            self.pivot,
            lazily(lambda w: w + public, self._words),
            self.bits,
            self.fraction,
            self.halves,
        )

    def minus(self, other: Split) -> Split:
        """x - y of two values split by the same pivot in the same ring."""
        halves = self._halves(np.subtract, other.halves)
        words = lazily(np.subtract, self._words, other._words)
        return Split(self.role, self.pivot, words, self.bits, self.fraction, halves)


class Pair(Form):
    """y = y_u + y_v mod 2^k at the twins of `pivot`, which holds nothing. The result of a separable evaluation."""

    __slots__ = ("pivot", "role", "words")

    def __init__(self, role: int, pivot: int, words: Words, bits: int, fraction: int) -> None:
        self.role, self.pivot, self.words, self.bits, self.fraction = role, pivot, words, bits, fraction

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape

    def map(self, layout: Layout) -> Pair:
        return Pair(self.role, self.pivot, layout(self.words), self.bits, self.fraction)

    def __add__(self, other: Pair) -> Pair:
        words = self.words if self.role == PIVOT else self.words + other.words
        return Pair(self.role, self.pivot, words, self.bits, self.fraction)

    def plus(self, public: Words) -> Pair:
        """y + public: u adds it."""
        return Pair(
            self.role,
            self.pivot,
            self.words + public if self.role == U else self.words,
            self.bits,
            self.fraction,
        )

    def plus_split(self, other: Split) -> Pair:
        """y + x for a Split of the same pivot whose A the twins hold in halves, same ring and scale."""
        if self.role == PIVOT:
            return self
        half = other.half
        assert half is not None
        words = self.words + (half + other.words if self.role == U else half)
        return Pair(self.role, self.pivot, words, self.bits, self.fraction)

    def times(self, public: Words) -> Pair:
        return Pair(
            self.role,
            self.pivot,
            self.words if self.role == PIVOT else self.words * public,
            self.bits,
            self.fraction,
        )

    def lowered(self, shift: int) -> Pair:
        """y / 2^shift mod 2^(k - shift), local; error below one unit, mean zero."""
        if shift == 0:
            return self
        bits = self.bits - shift
        if self.role == PIVOT:
            return Pair(self.role, self.pivot, nothing(self.shape, bits), bits, self.fraction - shift)
        words = self.words
        if self.role == U:
            words = words + words.dtype.type(1 << shift)
        words = resized(reduced(words, self.bits) >> word_type(self.bits).type(shift), bits)
        return Pair(self.role, self.pivot, words, bits, self.fraction - shift)

    def modulo(self, bits: int) -> Pair:
        words = nothing(self.shape, bits) if self.role == PIVOT else resized(self.words, bits)
        return Pair(self.role, self.pivot, words, bits, self.fraction)


class Bit:
    """q = q_u xor q_v at the twins of `pivot`: bits packed eight to a byte over the flattened shape."""

    __slots__ = ("pivot", "plane", "role", "shape")

    def __init__(self, role: int, pivot: int, plane: Words, shape: tuple[int, ...]) -> None:
        self.role, self.pivot, self.plane, self.shape = role, pivot, plane, shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __xor__(self, other: Bit) -> Bit:
        plane = self.plane if self.role == PIVOT else self.plane ^ other.plane
        return Bit(self.role, self.pivot, plane, self.shape)

    def __invert__(self) -> Bit:
        return Bit(self.role, self.pivot, ~self.plane if self.role == U else self.plane, self.shape)

    def __repr__(self) -> str:
        return f"Bit(shape={self.shape})"


def unpacked(plane: Words, size: int) -> Words:
    """Bits 0 or 1 as bytes, from a packed plane."""
    return np.unpackbits(plane, count=size, bitorder="little")


def see(party: Party, x: Replicated, pivot: int) -> Split:
    """Replicated -> Split(pivot), free."""
    role = party.role(pivot)
    if role == PIVOT:
        return Split(role, pivot, x.total, x.bits, x.fraction, nothing(x.shape, x.bits))
    if role == U:  # holds (x_{p+1}, x_{p+2})
        return Split(role, pivot, x._second, x.bits, x.fraction, x._first)
    assert role == V  # holds (x_{p+2}, x_p)
    return Split(role, pivot, x._first, x.bits, x.fraction, x._second)
