"""A matrix of weights that stays where it is stored: products take it block by block, in its packed words.

z_i = (x_i + x_{i+1}) w_i + x_i w_{i+1}: the sum of components is that of the activation, so each component of
the weight is used as it comes from its key or its file, and no whole matrix of words is ever made. Whatever
is neither a product nor a choice of rows reads the whole matrix (`resident`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.reading import Block, Part, Reading, Stored, StreamUse
from onnxpuma.mpc.forms.replicated import Replicated
from onnxpuma.mpc.forms.source import KeySource, MemorySource, Source
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.ring.arrays import contiguous, empty, zeros
from onnxpuma.mpc.ring.blended import Component
from onnxpuma.mpc.ring.words import Words, from_integers, resized

FEW = 4  # rows of the other factor from which on a blend pays


class Streamed(Replicated):
    """A weight in packed words, or a view of one: turned, in a smaller ring or at another scale."""

    __slots__ = ("stored", "turned")

    def __init__(self, party: int, stored: Stored, format: Format, turned: bool = False) -> None:
        self.party, self.stored, self.format, self.turned = party, stored, format, turned

    @property
    def shape(self) -> tuple[int, ...]:
        rows, columns = self.stored.shape
        return (columns, rows) if self.turned else (rows, columns)

    @property
    def pending(self) -> bool:
        return False

    # -- products ---------------------------------------------------------------------------------------

    def product(self, first: Words, second: Words, reading: Reading | None = None) -> Words:
        """first @ w_i + second @ w_{i+1} mod 2^bits; first and second: (..., K).

        Cost: one pass over the stored words, which `reading` may have read ahead.
        """
        made = self._zeros(first)
        self._pass((first, second), (made, made), reading)
        return self._shaped(made, first)

    def doubled_product(self, x: Words, reading: Reading | None = None) -> Words:
        """x @ blend mod 2^bits, of which a doubled product (linear.py) consists. x: (..., K).

        Both components of a few words become their blend, which is multiplied once. Where one has to be read,
        the other's part is made for each of its blocks. Cost: one pass, half the products of `product`. Few
        rows are multiplied with each component instead, which takes no longer than to blend them.
        """
        stored, reading = self.stored, reading or Reading()
        if x.size < FEW * self.shape[0]:
            twice = x + x
            return self.product(*((x, -x), (twice, x), (x, twice))[self.party], reading)
        made = self._zeros(x)
        rows = self._rows_of(x, made)
        file = next(iter(stored.on_disk), None)
        parts = reading.parts(stored, file) if file else [(stored.between(0, stored.shape[0]), None)]
        for block, packed in parts:
            with reading.use.product():
                self._add_blend(block, packed, rows, made, reading.use)
        return self._shaped(made, x)

    def rmatmul(  # type: ignore[override]  # what is read from a streamed value is a plain one
        self, values: npt.ArrayLike, fraction: int = 0
    ) -> Replicated:
        public = from_integers(values, self.bits)
        made = self._zeros(public), self._zeros(public)
        self._pass((public, public), made, None)
        first, second = (self._shaped(words, public) for words in made)
        return self._with(first, second, self.format.finer(fraction))

    def _zeros(self, left: Words) -> Words:
        return zeros((left.size // self.shape[0], self.shape[1]), max(32, self.stored.bits))

    def _rows_of(self, left: Words, made: Words) -> Words:
        return contiguous(left).reshape(len(made), -1).astype(made.dtype, copy=False)

    def _shaped(self, made: Words, left: Words) -> Words:
        return resized(made, self.bits).reshape(*left.shape[:-1], self.shape[1])

    def _pass(self, left: tuple[Words, Words], made: tuple[Words, Words], reading: Reading | None) -> None:
        """Add left[i] @ component i to made[i]; first what is at hand, while the blocks of a file arrive."""
        stored, reading = self.stored, reading or Reading()
        rows = [self._rows_of(x, made[0]) for x in left]
        ways = list(zip(stored.sources, rows, made, strict=True))
        for source, x, out in sorted(ways, key=lambda way: way[0] in stored.on_disk):
            if source in stored.on_disk:
                for part in reading.parts(stored, source):
                    with reading.use.product():
                        self._add_block(part, x, out)
            else:
                with reading.use.product():
                    self._add_whole(source, x, out, reading.use)

    def _add_block(self, part: Part, x: Words, out: Words) -> None:
        """out += x @ these rows of a component."""
        block, packed = part
        span, shape = slice(block.start, block.stop), (block.stop - block.start, self.stored.shape[1])
        if self.turned:
            ring.matmul_packed(x, packed, self.stored.bits, shape, out[:, span], turned=True)
        else:
            ring.matmul_packed(contiguous(x[:, span]), packed, self.stored.bits, shape, out)

    def _add_whole(self, source: Source, x: Words, out: Words, use: StreamUse) -> None:
        """out += x @ a component that need not be read."""
        stored = self.stored
        if isinstance(source, KeySource):
            use.key_seconds += source.product(x, stored.bits, stored.shape, out, self.turned)
            use.key_bytes += stored.size
        elif isinstance(source, MemorySource):
            whole = source.view(0, stored.size)
            ring.matmul_packed(x, whole, stored.bits, stored.shape, out, self.turned)

    def _add_blend(self, block: Block, read: memoryview | None, x: Words, out: Words, use: StreamUse) -> None:
        """out += x @ these rows of the blend; `read`: their words of the component that has to be read."""
        stored = self.stored
        pair: list[Component] = []
        for source in stored.sources:
            if isinstance(source, KeySource | MemorySource):
                pair.append(source.view(block.offset, block.size))
                use.key_bytes += block.size * isinstance(source, KeySource)
            else:
                pair.append(read)
        first, second = reversed(pair) if self.party == 2 else pair  # x_0 - x_1, 2 x_1 + x_2, x_2 + 2 x_0
        span, shape = slice(block.start, block.stop), (block.stop - block.start, stored.shape[1])
        left, made = (x, out[:, span]) if self.turned else (contiguous(x[:, span]), out)
        minus = self.party == 0
        use.key_seconds += ring.matmul_blended(
            left, first, second, minus, stored.bits, shape, made, self.turned
        )

    # -- layouts ----------------------------------------------------------------------------------------

    def transpose(self, *axes: Any) -> Streamed:
        order = axes[0] if len(axes) == 1 else axes
        turns = order is None or tuple(order) in ((), (1, 0))
        return Streamed(self.party, self.stored, self.format, self.turned ^ turns)

    def reshape(self, *shape: Any) -> Replicated:  # type: ignore[override]
        wanted = shape[0] if len(shape) == 1 else shape
        return self if wanted == self.shape else super().reshape(*shape)

    def modulo(self, bits: int) -> Streamed:
        return Streamed(self.party, self.stored, self.format.modulo(bits), self.turned)

    def with_fraction(self, fraction: int) -> Streamed:
        return Streamed(self.party, self.stored, self.format.at(fraction), self.turned)

    def take(self, index: npt.NDArray[np.intp], axis: int) -> Replicated:  # type: ignore[override]
        """Of stored rows, only those chosen are read."""
        if axis != 0 or self.turned or not index.size:
            return super().take(index, axis)
        chosen, back = np.unique(index % self.shape[0], return_inverse=True)
        first, second = self._rows(chosen)
        return self._with(first[back.reshape(index.shape)], second[back.reshape(index.shape)])

    def _rows(self, chosen: npt.NDArray[np.intp]) -> tuple[Words, Words]:
        """These stored rows of both components, one after the other."""
        stored = self.stored
        for source in stored.on_disk:
            if source.passing() is not None:
                for _ in Reading().parts(stored, source):
                    pass  # the whole array has to be checked once
        found = tuple(empty((len(chosen), stored.shape[1]), self.bits) for _ in stored.sources)
        for place, row in enumerate(chosen.tolist()):
            block = stored.between(row // stored.unit * stored.unit, row + 1)
            for source, out in zip(stored.sources, found, strict=True):
                packed = empty(block.size, 8)
                source.read(block.offset, packed.data)
                shape = (block.stop - block.start, stored.shape[1])
                out[place] = resized(ring.unpack(packed, stored.bits, shape)[-1], self.bits)
        return found[0], found[1]

    # -- everything else --------------------------------------------------------------------------------

    def resident(self) -> Weights:
        """The same value with all its words in memory."""
        return Weights.of(Replicated(self.party, *self.components, self.format))

    @property
    def components(self) -> tuple[Words, Words]:
        """Both components, read anew each time."""
        stored = self.stored
        found = tuple(empty(stored.shape, self.bits) for _ in stored.sources)
        for source, out in zip(stored.sources, found, strict=True):
            for block, packed in Reading().parts(stored, source):
                rows = ring.unpack(packed, stored.bits, (block.stop - block.start, stored.shape[1]))
                out[block.start : block.stop] = resized(rows, self.bits)
        first, second = (words.T if self.turned else words for words in found)
        return first, second

    @property
    def first(self) -> Words:
        return self.components[0]

    @property
    def second(self) -> Words:
        return self.components[1]

    @property
    def total(self) -> Words:
        first, total = self.components
        total += first
        return total
