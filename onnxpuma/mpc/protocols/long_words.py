"""Long words between the parties: dealt, and passed on to the next pivot.

They follow the conversions of words (convert.py), limb by limb: a limb is masked by a limb of a mask, and the
borrow of the lower limb stays within the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair
from onnxpuma.mpc.party import PIVOT, Maybe, Party, U, V, taken
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.long import LONGEST, Long, limb_widths
from onnxpuma.mpc.ring.words import resized

TOGETHER = 8  # columns of one buffer, each as wide as the widest of them


@dataclass(frozen=True)
class Coming:
    """Long words on their way: of each run of columns the buffers of its limbs."""

    runs: list[list[Maybe]]

    def take(self) -> Long:
        return Long.joined([Long.of_limbs([taken(w) for w in limbs]) for limbs in self.runs])


@dataclass(frozen=True)
class LongSplit:
    """x = A + B mod 2^bits, (n,); the pivot holds A, both twins hold B."""

    role: int
    pivot: int
    coming: Coming
    bits: int

    @property
    def words(self) -> Long:
        """A at the pivot, B at a twin."""
        return self.coming.take()


@dataclass(frozen=True)
class LongPair:
    """y = y_u + y_v mod 2^bits at the twins of `pivot`, which holds nothing.

    words: one after the other; shape: of the value that they stand for.
    """

    role: int
    pivot: int
    words: Long | None
    shape: tuple[int, ...]
    bits: int

    def lowered(self, shift: int, format: Format) -> Pair:
        """y / 2^shift mod 2^(bits - shift) in `format`, local; error as `Split.lowered`.

        A negative shift multiplies, exactly.
        """
        if self.bits - shift < format.bits:
            raise ProtocolError(f"{self.bits} bits lowered by {shift} for {format}", "a wider ring")
        if self.words is None:
            return Pair(self.role, self.pivot, nothing(self.shape, format.bits), format)
        if shift < 0:
            words = self.words.raised(-shift)
        else:
            words = self.words.lowered(self.bits, shift, up=self.role == U)
        return Pair(self.role, self.pivot, resized(words, format.bits).reshape(self.shape), format)

    def shifted(self, shift: int) -> LongPair:
        """y / 2^shift mod 2^(bits - shift), local; error as `lowered`."""
        words = None if self.words is None else self.words.shifted(self.bits, shift, up=self.role == U)
        return LongPair(self.role, self.pivot, words, self.shape, self.bits - shift)

    def __add__(self, other: LongPair) -> LongPair:
        words = None if self.words is None or other.words is None else self.words + other.words
        return LongPair(self.role, self.pivot, words, self.shape, self.bits)


@lru_cache(maxsize=256)
def runs(widths: tuple[int, ...], together: int) -> tuple[tuple[slice, int], ...]:
    """The columns that travel together, and their width: the largest of those that each of them needs."""
    if max(widths) > LONGEST:
        raise ProtocolError(f"words of {max(widths)} bits", f"{LONGEST} at most")
    starts = range(0, len(widths), together)
    ends = (min(i + together, len(widths)) for i in starts)
    return tuple((slice(i, end), max(widths[i:end])) for i, end in zip(starts, ends, strict=True))


def deal_long(
    party: Party,
    pivot: int,
    words: Long | None,
    rows: int,
    widths: Sequence[int],
    together: int = TOGETHER,
) -> Coming:
    """Share the pivot's long words, (rows, columns), between its twins, as `deal` does.

    Column c is dealt mod 2^widths[c] or a larger ring. `words` is None at the twins; the result has no
    meaning at the pivot. together: neighbouring columns that travel in one buffer.
    """
    role, found, each = party.role(pivot), list[list[Maybe]](), runs(tuple(widths), together)
    for columns, width in each:
        shape = (rows, columns.stop - columns.start)
        if role == V:
            found.append([party.expect(pivot, shape, bits) for bits in limb_widths(width)])
        else:
            found.append([party.draw(pivot + 1, shape, bits) for bits in limb_widths(width)])
    coming = Coming(found)
    if words is not None:
        rest = words - coming.take()
        for columns, width in each:
            for limb, bits in rest[..., columns].limbs(width):
                party.send(pivot + 2, limb, bits)
    return coming


def deal_long_cost(rows: int, widths: Sequence[int], together: int = TOGETHER) -> Cost:
    total = 0
    for columns, width in runs(tuple(widths), together):
        count = rows * (columns.stop - columns.start)
        total += sum(packed(count, bits) for bits in limb_widths(width))
    return Cost(1, total)


def tell_long(party: Party, pivot: int, words: Long | None, rows: int, widths: Sequence[int]) -> Coming:
    """Send the pivot's long words, (rows, columns), to both twins, each column mod 2^widths[c] or a larger
    ring. `words` is None at the twins; the result has no meaning at the pivot. The caller has masked them.
    """
    found = list[list[Maybe]]()
    for columns, width in runs(tuple(widths), TOGETHER):
        if words is not None:
            for limb, bits in words[..., columns].limbs(width):
                party.tell(pivot, limb, bits)
        else:
            shape = (rows, columns.stop - columns.start)
            found.append([party.expect(pivot, shape, bits) for bits in limb_widths(width)])
    return Coming(found)


def tell_long_cost(rows: int, widths: Sequence[int]) -> Cost:
    return Cost(1, 2 * deal_long_cost(rows, widths).bits)


def pass_on_long(party: Party, y: LongPair) -> LongSplit:
    """LongPair(p) -> LongSplit(p+1), as `pass_on`; k bits, one round that is still open when this returns."""
    p, role, pivot, widths = y.pivot, y.role, (y.pivot + 1) % 3, limb_widths(y.bits)
    shape = (math.prod(y.shape),)
    if role == PIVOT:
        limbs: list[Maybe] = [party.expect(p + 2, shape, bits) for bits in widths]
        return LongSplit(party.role(pivot), pivot, Coming([limbs]), y.bits)
    assert y.words is not None
    zeta = Long.of_limbs([party.draw(p + 2, shape, bits) for bits in widths])
    words = y.words + zeta if role == U else y.words - zeta
    if role == V:
        for limb, bits in words.limbs(y.bits):
            party.send(p, limb, bits)
    kept: list[Maybe] = [words.low, words.high]
    return LongSplit(party.role(pivot), pivot, Coming([kept]), y.bits)


def pass_on_long_cost(elements: int, bits: int) -> Cost:
    return Cost(1, sum(packed(elements, width) for width in limb_widths(bits)))
