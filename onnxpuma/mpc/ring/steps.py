"""Local steps of protocols on short arrays, in one call of the kernel each.

A step is some ten or twenty operations of numpy, whose cost is that of their calls. Where no kernel is built
fallback.py does the same, or a function returns None, or False, and the protocol computes the words itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.noted import noted, noted_change
from onnxpuma.mpc.ring.words import WIDEST, Words, word_type

Integers: TypeAlias = npt.NDArray[np.int64]
Turns: TypeAlias = npt.NDArray[np.signedinteger[Any]]
_MOST = 10  # bits of a group that the kernel takes
_TURNS_BYTES = 4  # of a cosine that the kernel reads, at most
_LEAD, _OPEN, _END = range(3)  # the order of py_lift in _ring.cpp


def program(entries: Sequence[Sequence[int]]) -> Words:
    """Entries (target, number of rows, rows ...) as `xor_ands` reads them."""
    return np.array([number for entry in entries for number in entry], np.uint32)


@noted_change
def xor_ands(out: Words, program: Words, rows: Sequence[Words]) -> None:
    """out[target] ^= the AND of some rows, for each entry (target, number of rows, rows ...) of a program.

    out: (outputs, size) bytes. rows: of several arrays, (size,) or (n, size), counted through. program:
    `program`. The AND of no row is all ones. Cost: a pass over each row that an entry names.
    """
    size = out.shape[1]
    if not size:
        return
    ready = tuple([np.ascontiguousarray(each) for each in rows])
    kernel = native()
    if kernel is None or not out.flags.c_contiguous:
        fallback.xor_ands(out, program, ready)
    else:
        kernel.xor_ands(out, size, program, ready)


@noted
def group_products(words: Words, widths: bytes, masks: Words) -> Words | None:
    """The products of all non-empty sets of each group's bits, in the order of the sets' masks, and the bit
    above all groups, xor the masks: (count, ceil(n / 8)) planes of words (n,).

    widths: bits of the groups, from the lowest bit on, a byte each.
    """
    kernel = native()
    if kernel is None or max(widths, default=0) > _MOST:
        return None
    out = np.empty(masks.shape, np.uint8)
    kernel.group_products(np.ascontiguousarray(words), widths, np.ascontiguousarray(masks), out)
    return out


@noted
def group_answers(words: Words, less: int, widths: bytes, shares: Words, u: bool) -> Words | None:
    """A twin's shares of what mpc/protocols/carry.py asks of A + b - less, b being the words: (2 groups + 1,
    ceil(n / 8)) planes, of each group [carries] and [passes a carry on], then the xor of the top bits.

    shares: of the planes that `group_products` yields.
    """
    kernel = native()
    if kernel is None or max(widths, default=0) > _MOST:
        return None
    out = np.empty((2 * len(widths) + 1, shares.shape[1]), np.uint8)
    less %= 1 << WIDEST
    kernel.group_answers(np.ascontiguousarray(words), less, widths, np.ascontiguousarray(shares), u, out)
    return out


@noted
def series_points(
    words: Words, bits: int, table: Turns, multiples: Integers, less: Integers, width: int
) -> Words | None:
    """Cosines and sines of multiples of angles (n,), 2^bits to a turn, rounded: (2 harmonics, n) mod 2^width.

    table: (2^bits, 2), of at most 30 fraction bits. multiples, less: of each harmonic, and the fraction bits
    that it drops.
    """
    kernel = native()
    if kernel is None or table.itemsize > _TURNS_BYTES or (less < 1).any():
        return None
    out = np.empty((2 * len(multiples), words.size), word_type(width))
    kernel.series_points(np.ascontiguousarray(words), bits, table, multiples, less, out)
    return out


@noted_change
def series_sum(
    total: Words,
    words: Words,
    bits: int,
    table: Turns,
    harmonics: Integers,
    extra: int,
    dealt: Sequence[Words],
) -> bool:
    """Whether the kernel has added a series to `total`, (n,): the cosine and the sine that were dealt for
    each harmonic times their factors of this party's angles, which are `words` mod 2^bits.

    harmonics: (count, 4), int64: the multiple, the coefficients c and s with `extra` fraction bits, and how
    far the factors are shifted up. A factor is c cos + s sin of the multiple, or s cos - c sin, rounded to
    the fraction bits of the table, (2^bits, 2).
    """
    kernel = native()
    if kernel is None or table.itemsize > _TURNS_BYTES:
        return False
    ready = tuple([np.ascontiguousarray(each) for each in dealt])
    return bool(kernel.series_sum(np.ascontiguousarray(words), bits, table, harmonics, extra, ready, total))


@noted
def lift_lead(
    a: Words, r: Words, a_u: Words, m_u: Words, m_v: Words, bits: int, carry: int
) -> tuple[Words, Words, Words, Words]:
    """The pivot's part of a lift from `bits` to bits + carry: what it sends v, its A less r and top bit less
    a_u; and its two components, the one that v gets and the one that u gets."""
    kernel = native()
    if kernel is None:
        return fallback.lift_lead(a, r, a_u, m_u, m_v, bits, carry)
    wide = word_type(bits + carry)
    rest, first, second = np.empty(a.shape, wide), np.empty(a.shape, wide), np.empty(a.shape, wide)
    top = np.empty(a.shape, word_type(carry))
    given = [np.ascontiguousarray(each) for each in (a, r, a_u, m_u, m_v)]
    kernel.lift(_LEAD, bits, carry, False, (*given, rest, top, first, second))
    return rest, top, first, second


@noted
def lift_open(b: Words, a: Words, m: Words, bits: int, carry: int) -> Words:
    """What a twin opens of a lift: its share of [A's top bit] (1 - B's top bit), under its mask m."""
    kernel = native()
    if kernel is None:
        return fallback.lift_open(b, a, m, bits, carry)
    mine = np.empty(b.shape, word_type(carry))
    given = [np.ascontiguousarray(each) for each in (b, a, m)]
    kernel.lift(_OPEN, bits, carry, False, (*given, mine))
    return mine


@noted
def lift_end(
    b: Words, mine: Words, theirs: Words, rest: Words, m: Words, bits: int, carry: int, u: bool
) -> tuple[Words, Words]:
    """A twin's two components of a lifted value: the one that both twins have, and its own."""
    kernel = native()
    if kernel is None:
        return fallback.lift_end(b, mine, theirs, rest, m, bits, carry, u)
    wide = word_type(bits + carry)
    common, own = np.empty(b.shape, wide), np.empty(b.shape, wide)
    given = [np.ascontiguousarray(each) for each in (b, mine, theirs, rest, m)]
    kernel.lift(_END, bits, carry, u, (*given, common, own))
    return common, own
