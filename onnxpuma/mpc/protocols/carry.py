"""Carries of A + B, from shares of the products of A's bits (docs/protocols.md, "Comparison").

Whether a group of w bits carries, or passes a carry on, is a polynomial of A's bits. Both twins know its
coefficients, because they know B. So the pivot shares the 2^w - 1 products of the group's bits between them,
once, and each question about the group is local: 7 bits for three bits of A, where two tables would take 16.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Bit, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.ring.arrays import as_plane, counting, filled, flat, joined, nothing, stacked
from onnxpuma.mpc.ring.steps import group_answers, group_products
from onnxpuma.mpc.ring.words import Words, from_integers, resized, word

AT_ONCE = 1 << 15  # bits of short words, and bytes of short planes: those are computed together


def _bits(words: Words, count: int) -> Words:
    """The lowest bits of every word, packed: (count, ceil(n / 8))."""
    if count * words.size > AT_ONCE:
        return stacked([as_plane(ring.shift_mask(words, place, 1)) for place in range(count)])
    return as_plane(resized((words >> counting(count, 8)[:, None]) & word(1, 8), 8), axis=1)


@cache
def _alike(widths: tuple[int, ...], together: bool) -> tuple[tuple[int, int], ...]:
    """(width, number of groups) of neighbours that are computed at once."""
    if not together:
        return tuple((width, 1) for width in widths)
    return tuple((width, len(list(groups))) for width, groups in groupby(widths))


def _products(bits: Words) -> Words:
    """(groups, width, size) to the products of all non-empty sets of each group's bits, in the order of the
    sets' masks: (groups * (2^width - 1), size)."""
    groups, width, size = bits.shape
    found = filled((groups, 1 << width, size), 255, 8)
    for place in range(width):
        low, high = 1 << place, 2 << place
        np.bitwise_and(found[:, :low], bits[:, place, None], out=found[:, low:high])
    return found[:, 1:].reshape(groups * ((1 << width) - 1), size)


def _carried(bits: Words, products: Words, role: int) -> tuple[Words, Words]:
    """This twin's shares of [a + b carries out of the group] and of [a + b is all ones], (groups, size) each.

    bits: b's, (groups, width, size). products: shares of those of a's bits, (groups, 2^width - 1, size). All
    ones is the product of a_i xor b_i: place by place each set that lacks it is multiplied by b_i, and added
    to the set that has it. A carry comes from a place where both are one, past places above that differ.
    """
    groups, width, size = bits.shape
    rest = passes = joined([filled((groups, 1, size), 255 if role == U else 0, 8), products], axis=1)
    carries: Words | None = None
    for place in range(width):
        b = bits[:, place, None]
        both = rest[:, 1::2] & b
        carries = both if carries is None else (carries[:, ::2] & b) ^ carries[:, 1::2] ^ both
        passes = (passes[:, ::2] & b) ^ passes[:, 1::2]
        rest = rest[:, ::2]
    assert carries is not None
    return carries[:, 0], passes[:, 0]


def group_carries(
    party: Party, x: Split, widths: tuple[int, ...], thresholds: tuple[int, ...] = (0,)
) -> Protocol[list[Bit]]:
    """For x less each threshold: [group i carries] at 2i, [group i passes a carry on] at 2i + 1, and last the
    xor of A's and B's top bits; XOR-shared, one threshold after the other.

    widths: of the groups, from the lowest bit; they add up to one bit less than x has. Thresholds are public
    and subtracted from B, so that one deal of A's products serves all of them. Exact. Masks: F_{p+1} on every
    product. Rounds: 1, one way from the pivot; bits: `group_carries_cost`.
    """
    role, p, n, count = party.role(x.pivot), x.pivot, x.size, products_of(widths)
    top, size = sum(widths), -(-n // 8)
    alike = _alike(widths, count * size <= AT_ONCE)
    if role == PIVOT:
        words, masks = flat(x.words), party.draw_planes(p + 1, count, n)
        dealt = group_products(words, bytes(widths), masks)
        party.send(p + 2, _dealt(_bits(words, top + 1), alike) ^ masks if dealt is None else dealt, 8)
        yield
        several = len(thresholds) * (2 * len(widths) + 1)
        return [Bit(PIVOT, p, nothing((size,), 8), x.shape) for _ in range(several)]
    late = party.draw_planes(p + 1, count, n) if role == U else party.expect(p, (count, size), 8)
    yield
    shares = taken(late)
    words = flat(x.words)
    found = []
    for threshold in thresholds:
        answers = group_answers(words, threshold, bytes(widths), shares, role == U)
        if answers is not None:
            found += list(answers)
            continue
        less = words - from_integers(threshold, x.bits) if threshold else words
        found += _answers(_bits(less, top + 1), shares, alike, role)
    return [Bit(role, p, plane, x.shape) for plane in found]


def _dealt(planes: Words, alike: tuple[tuple[int, int], ...]) -> Words:
    """The products of A's bits, `planes`, and their top bit."""
    rows, place = list[Words](), 0
    for width, groups in alike:
        rows.append(_products(planes[place : place + groups * width].reshape(groups, width, planes.shape[1])))
        place += groups * width
    return joined([*rows, planes[place:]])


def _answers(planes: Words, shares: Words, alike: tuple[tuple[int, int], ...], role: int) -> list[Words]:
    """One twin's shares of all bits about A + b. planes: b's bits."""
    found, row, place, size = list[Words](), 0, 0, planes.shape[1]
    for width, groups in alike:
        bits = planes[place : place + groups * width].reshape(groups, width, size)
        sets = (1 << width) - 1
        after = row + groups * sets
        for pair in zip(*_carried(bits, shares[row:after].reshape(groups, sets, size), role), strict=True):
            found += pair
        row, place = after, place + groups * width
    found.append(shares[row] ^ planes[place] if role == U else shares[row].copy())
    return found


def products_of(widths: tuple[int, ...]) -> int:
    """Bits that the pivot deals for one element."""
    return sum((1 << width) - 1 for width in widths) + 1


def group_carries_cost(elements: int, widths: tuple[int, ...]) -> Cost:
    return Cost(1, packed(elements, 1) * products_of(widths))
