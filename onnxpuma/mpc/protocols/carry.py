"""Carries of A + B, from shares of the products of A's bits (docs/protocols.md, "Comparison").

Whether a group of w bits carries, or passes a carry on, is a polynomial of A's bits. Both twins know its
coefficients, because they know B. So the pivot shares the 2^w - 1 products of the group's bits between them,
once, and each question about the group is local: 7 bits for three bits of A, where two tables would take 16.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Bit, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.ring.arrays import as_plane, filled, flat, nothing, stacked, zeros
from onnxpuma.mpc.ring.words import Words, from_integers

Terms: TypeAlias = dict[
    int, Words
]  # product of A's bits, as a mask of them -> its coefficient at each element


def _bit(words: Words, place: int) -> Words:
    """Bit `place` of every word, packed."""
    return as_plane(ring.shift_mask(words, place, 1))


def _products(bits: list[Words]) -> list[Words]:
    """The products of all non-empty sets of bits, in the order of the sets' masks."""
    found = [filled(bits[0].shape, 255, 8)]
    for number in range(1, 1 << len(bits)):
        low = (number & -number).bit_length() - 1
        found.append(found[number & (number - 1)] & bits[low])
    return found[1:]


def _times_sum(terms: Terms, place: int, b: Words) -> Terms:
    """The polynomial times (a_place xor b); none of its terms contains a_place."""
    found = {number: plane & b for number, plane in terms.items()}
    found.update((number | 1 << place, plane) for number, plane in terms.items())
    return found


def _generates(b: list[Words]) -> Terms:
    """[a + b carries out of the group]: at the top bit, or from below it where the two bits differ there."""
    terms: Terms = {}
    for place, plane in enumerate(b):
        terms = {**_times_sum(terms, place, plane)}
        terms[1 << place] = terms.get(1 << place, zeros(plane.shape, 8)) ^ plane
    return terms


def _propagates(b: list[Words]) -> Terms:
    """[a + b is all ones]."""
    terms: Terms = {0: filled(b[0].shape, 255, 8)}
    for place, plane in enumerate(b):
        terms = _times_sum(terms, place, plane)
    return terms


def _evaluated(terms: Terms, products: Words, role: int) -> Words:
    """This twin's share of the polynomial, from its shares of A's products, that of mask 1 first."""
    total = zeros(products[0].shape, 8)
    for number, plane in terms.items():
        if number:
            total ^= products[number - 1] & plane
        elif role == U:
            total ^= plane
    return total


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
    starts = np.cumsum((0, *widths))
    top, size = int(starts[-1]), -(-n // 8)
    if role == PIVOT:
        words = flat(x.words)
        planes = [_bit(words, place) for place in range(top + 1)]
        rows = [
            row
            for start, width in zip(starts, widths, strict=False)
            for row in _products(planes[start : start + width])
        ]
        party.send(p + 2, stacked([*rows, planes[top]]) ^ party.draw_planes(p + 1, count, n), 8)
        yield
        several = len(thresholds) * (2 * len(widths) + 1)
        return [Bit(PIVOT, p, nothing((size,), 8), x.shape) for _ in range(several)]
    late = party.draw_planes(p + 1, count, n) if role == U else party.expect(p, (count, size), 8)
    yield
    shares = taken(late)
    words = flat(x.words)
    found = []
    for threshold in thresholds:
        less = words - from_integers(threshold, x.bits) if threshold else words
        found += _answers(less, shares, widths, role)
    return [Bit(role, p, plane, x.shape) for plane in found]


def _answers(b: Words, shares: Words, widths: tuple[int, ...], role: int) -> list[Words]:
    """One twin's shares of all bits about A + b."""
    found, row, place = [], 0, 0
    for width in widths:
        planes = [_bit(b, place + number) for number in range(width)]
        products = shares[row : row + (1 << width) - 1]
        found += [_evaluated(terms, products, role) for terms in (_generates(planes), _propagates(planes))]
        row, place = row + (1 << width) - 1, place + width
    found.append(shares[row] ^ _bit(b, place) if role == U else shares[row].copy())
    return found


def products_of(widths: tuple[int, ...]) -> int:
    """Bits that the pivot deals for one element."""
    return sum((1 << width) - 1 for width in widths) + 1


def group_carries_cost(elements: int, widths: tuple[int, ...]) -> Cost:
    return Cost(1, packed(elements, 1) * products_of(widths))
