"""A form is an array of secret numbers: it is laid out, added to and scaled like any other array.

`map` applies a linear function to the words that a party has. All layouts are written in terms of it, so they
hold for every form. Everything here is local: no message, no PRF word. A form's repr prints its shape, never
its words.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.public import PublicWords
from onnxpuma.mpc.ring.arrays import contiguous
from onnxpuma.mpc.ring.noted import filled_beside
from onnxpuma.mpc.ring.words import Words, from_integers, word_type

Layout: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound="Form")


class Form(ABC):
    """An array of secret numbers: its shape, the format of its words, and its algebra."""

    __slots__ = ("format",)
    format: Format

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    def bits(self) -> int:
        return self.format.bits

    @property
    def fraction(self) -> int:
        return self.format.fraction

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def pending(self) -> bool:
        """Some of its words are still on their way to a party. All three parties get the same answer."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, bits={self.bits}, fraction={self.fraction})"

    def beside(self, other: Form) -> None:
        """Check that both values are in one ring at one scale, and have the same pivot if they have one."""
        one_pivot = getattr(self, "pivot", None) == getattr(other, "pivot", None)
        if self.format != other.format or not one_pivot:
            raise ProtocolError(f"{self} and {other} do not go together", "bring both to one ring and scale")

    # -- the algebra ----------------------------------------------------------------------------------

    @abstractmethod
    def map(
        self: F, function: Layout, *others: F, fraction: int = 0, shape: tuple[int, ...] | None = None
    ) -> F:
        """A linear function of this value and others of its form, applied to each party's words.

        fraction: the fraction bits that the function's public coefficients add. shape: the shape of the
        result, if the caller knows it; otherwise the function is tried on zeros while words are on their way.
        """

    @abstractmethod
    def plus(self: F, public: Words) -> F:
        """x + public (words of this ring)."""

    @abstractmethod
    def times(self: F, public: Words, fraction: int = 0) -> F:
        """x * public (words of this ring, with `fraction` bits of their own)."""

    @abstractmethod
    def with_fraction(self: F, fraction: int) -> F:
        """The same words read at another scale: x times 2^(old - new)."""

    @abstractmethod
    def modulo(self: F, bits: int) -> F:
        """x mod 2^bits: the high bits of every word are dropped."""

    def __add__(self: F, other: F) -> F:
        return self.map(_plus, other)

    def __sub__(self: F, other: F) -> F:
        return self.map(_minus, other)

    def __neg__(self: F) -> F:
        return self.map(_negative)

    def plus_numbers(self: F, values: npt.ArrayLike) -> F:
        """x + public numbers, encoded in this value's format."""
        return self.plus(self.format.encode(values))

    def times_integers(self: F, values: npt.ArrayLike, fraction: int = 0) -> F:
        """x * public integers that carry `fraction` fraction bits."""
        return self.times(from_integers(values, self.bits), fraction)

    def times_public(self: F, public: PublicWords, fraction: int = 0) -> F:
        """x * public words, of this ring or a larger one, that carry `fraction` fraction bits."""
        return self.times(public.words.astype(self.format.word, copy=False), fraction)

    def bilinear(
        self: F, function: Callable[[Words, Words], Any], values: npt.ArrayLike, fraction: int = 0
    ) -> F:
        """function(public, x), linear in each: public integers that carry `fraction` fraction bits."""
        public = from_integers(values, self.bits)
        return self.map(lambda w: function(public, w), fraction=fraction)

    def matmul(self: F, values: npt.ArrayLike, fraction: int = 0) -> F:
        """x @ public integers that carry `fraction` fraction bits."""
        return self.bilinear(lambda public, w: ring.matmul(w, public), values, fraction)

    def rmatmul(self: F, values: npt.ArrayLike, fraction: int = 0) -> F:
        """Public integers that carry `fraction` fraction bits @ x."""
        return self.bilinear(ring.matmul, values, fraction)

    def aligned(self: F, fraction: int) -> F:
        """The same value at more fraction bits, in the same ring."""
        shift = fraction - self.fraction
        return self.times(word_type(self.bits).type(1 << shift), shift) if shift else self

    # -- layouts --------------------------------------------------------------------------------------

    def __getitem__(self: F, index: Any) -> F:
        return self.map(lambda w: w[index])

    def reshape(self: F, *shape: Any) -> F:
        return self.map(lambda w: w.reshape(*shape))

    def contiguous(self: F, *shape: int) -> F:
        """All elements in their order, in memory as well, in another shape if one is given."""
        return self.map(lambda w: contiguous(w).reshape(shape or w.shape))

    def owned(self: F) -> F:
        """The same value in arrays of its own: a view would keep alive the array that it was cut from."""
        return self.map(lambda w: w if w.base is None and w.flags.c_contiguous else w.copy(order="C"))

    def flat(self: F) -> F:
        """All elements in their order, (size,)."""
        return self.contiguous(-1)

    def transpose(self: F, *axes: Any) -> F:
        return self.map(lambda w: w.transpose(*axes))

    def moveaxis(self: F, source: Any, destination: Any) -> F:
        return self.map(lambda w: np.moveaxis(w, source, destination))

    def broadcast_to(self: F, shape: tuple[int, ...]) -> F:
        return self.map(lambda w: np.broadcast_to(w, shape))

    def repeat(self: F, times: int, axis: int) -> F:
        """Each part along an axis `times` times, contiguous."""
        return self.map(lambda w: contiguous(np.repeat(w, times, axis=axis) if times > 1 else w))

    def pad(self: F, widths: Sequence[tuple[int, int]]) -> F:
        """Zeros around the edges, (before, after) for each axis."""
        return self.map(lambda w: np.pad(w, widths))

    def sum(self: F, axis: int | tuple[int, ...], keepdims: bool = False) -> F:
        return self.map(lambda w: w.sum(axis=axis, keepdims=keepdims, dtype=w.dtype))

    def cumsum(self: F, axis: int) -> F:
        return self.map(lambda w: np.cumsum(w, axis=axis, dtype=w.dtype))

    def run_sums(self: F, starts: npt.NDArray[np.intp]) -> F:
        """The sums of the runs of a flat value that begin at these places."""
        return self.map(lambda w: np.add.reduceat(w, starts, dtype=w.dtype))

    def windows(self: F, spans: tuple[int, ...], axes: tuple[int, ...]) -> F:
        """Every window of `spans` elements along these axes; the windows' own axes come last."""
        return self.map(lambda w: np.lib.stride_tricks.sliding_window_view(w, spans, axis=axes))

    def take(self: F, index: npt.NDArray[np.intp], axis: int) -> F:
        """The parts along an axis at these indices."""
        return self.map(lambda w: np.take(w, index, axis=axis))

    def take_along(self: F, index: npt.NDArray[np.intp], axis: int) -> F:
        """For each place of `index` the element with this number along the axis."""
        return self.map(lambda w: np.take_along_axis(w, index, axis))

    def zeroed(self: F, places: npt.NDArray[np.bool_]) -> F:
        """Zeros where a public mask is true."""
        return self.map(lambda w: np.where(places, w.dtype.type(0), w))

    def placed(self: F, index: Any, new: F) -> F:
        """A copy with `new` at this index."""

        def put(words: Words, others: Words) -> Words:
            made = words.copy()
            made[index] = others
            return made

        return self.map(put, new)

    def added_at(self: F, places: npt.NDArray[np.intp], more: F) -> F:
        """A copy of a flat value with `more` added at these places; a place may occur several times."""

        def put(words: Words, others: Words) -> Words:
            made = words.copy()
            np.add.at(made, places, others)
            return made

        return self.map(put, more)

    def within(self: F, index: Any, shape: tuple[int, ...]) -> F:
        """Zeros of this shape, with the value at this index."""

        def put(words: Words) -> Words:
            made = filled_beside(words, np.zeros(shape, words.dtype))
            made[index] = words
            return made

        return self.map(put)

    def spaced(self: F, places: npt.NDArray[np.intp] | None, shape: tuple[int, ...]) -> F:
        """A flat value's elements at these flat places of `shape`, zeros elsewhere; None: they fill it."""
        count = math.prod(shape)
        if places is None or len(places) == count:
            return self.reshape(shape)
        return self.within(places, (count,)).reshape(shape)


def _plus(first: Words, second: Words) -> Words:
    return first + second


def _minus(first: Words, second: Words) -> Words:
    return first - second


def _negative(words: Words) -> Words:
    zero: Words = words.dtype.type(0) - words
    return zero
