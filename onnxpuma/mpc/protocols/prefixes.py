"""Numbers for the prefixes that a number of the pivot and one of both twins have in common, in one message.

An incremental distributed point function [BBCGI21]: the pivot knows N, the twins know B, and for each of
several lengths of a prefix the pivot has a number. The twins get additive shares of it if the prefix of that
length is the same in B as in N, or one more in B; otherwise shares of zero. The pivot deals a tree of seeds
(seed_tree.py) whose path is N. Each twin walks it along its own B, and along the prefixes next below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, Maybe, Party, U, V, taken
from onnxpuma.mpc.protocols.long_words import Coming, tell_long, tell_long_cost
from onnxpuma.mpc.protocols.seed_tree import (
    FACTOR,
    HALF,
    LEFT,
    NUMBER,
    PATH_KEYS,
    RIGHT,
    SEED,
    corrected,
    descend,
    expanded,
)
from onnxpuma.mpc.ring.arrays import filled, joined, ones, stacked, zeros
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.trees import deal_tree, walk_tree
from onnxpuma.mpc.ring.words import Words, reduced


@dataclass(frozen=True)
class Prefixes:
    """Prefixes of numbers of `bits` bits, of these lengths in ascending order, with two numbers each: one mod
    2^number_widths, one mod 2^factor_widths, of which the second has 64 bits at most."""

    bits: int
    lengths: tuple[int, ...]
    number_widths: tuple[int, ...]
    factor_widths: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Levels of the tree."""
        return self.lengths[-1]

    @cached_property
    def stops(self) -> bytes:
        """The lengths, a byte each."""
        return bytes(self.lengths)


@dataclass
class PrefixKeys:
    """A twin's key: its root, and what the pivot has sent to both twins. No meaning at the pivot."""

    role: int
    of: Prefixes
    root: Words
    corrections: Maybe
    numbers: Coming
    factors: Coming

    def evaluate(self, b: Words) -> tuple[Long, Long]:
        """This twin's shares of both numbers at B, (n,): (n, lengths) each."""
        corrections, holder, of = taken(self.corrections), int(self.role == V), self.of
        numbers, factors, b = self.numbers.take(), self.factors.take(), reduced(b, of.bits)
        found = walk_tree(PATH_KEYS, of.bits, of.stops, b, self.root, corrections, numbers, factors, holder)
        return found or walk(self.root, corrections, b, numbers, factors, of, holder)


def deal_prefixes(
    party: Party,
    pivot: int,
    n: Words | None,
    numbers: Long | None,
    factors: Long | None,
    rows: int,
    of: Prefixes,
) -> PrefixKeys:
    """Deal the twins keys for N, (rows,), and its numbers, (rows, lengths); all three are None at the twins.

    Masks: the twins' roots are words of F_{p+1} and F_p. All that is sent is a correction, which to each twin
    is random as long as AES is a PRF under the root of the other. Rounds: 1, one way from the pivot, which
    knows N at once; bits: `deal_prefixes_cost`.
    """
    role = party.role(pivot)
    roots = [
        party.draw(pivot + key, (rows, 2), HALF) & SEED
        for key, holder in ((1, U), (0, V))
        if role in (PIVOT, holder)
    ]
    sent: list[Long | None] = [None, None]
    shape = (rows, 2 * of.depth)
    corrections: Maybe = zeros(shape, HALF)
    if n is not None and numbers is not None and factors is not None:
        n, both = reduced(n, of.bits), joined(roots).reshape(2, rows, 2)
        found = deal_tree(PATH_KEYS, of.bits, of.stops, n, both, numbers, factors)
        corrections, *sent = found or generate(both, n, numbers, factors, of)
        party.tell(pivot, corrections, HALF)
    else:
        corrections = party.expect(pivot, shape, HALF)
    late = (tell_long(party, pivot, s, rows, w) for s, w in zip(sent, _widths(of), strict=True))
    return PrefixKeys(role, of, roots[0], corrections, *late)


def deal_prefixes_cost(rows: int, of: Prefixes) -> Cost:
    total = Cost(1, 2 * packed(rows * 2 * of.depth, HALF))
    for widths in _widths(of):
        total |= tell_long_cost(rows, widths)
    return total


def _widths(of: Prefixes) -> tuple[Sequence[int], Sequence[int]]:
    return of.number_widths, of.factor_widths


def generate(roots: Words, n: Words, numbers: Long, factors: Long, of: Prefixes) -> tuple[Words, Long, Long]:
    """What both twins are sent, from their roots, (2, n, 2): the corrections of seeds, (n, 2 depth), and of
    both numbers, (n, lengths)."""
    seeds, bits = roots, stacked([zeros(n.shape, HALF), ones(n.shape, HALF)])
    corrections, reached = [], []
    for level in range(of.depth):
        right = ((n >> n.dtype.type(of.bits - 1 - level)) & n.dtype.type(1)).astype(SEED.dtype)
        correction, seeds, bits = descend(seeds, bits, right)
        corrections.append(correction)
        if level + 1 in of.lengths:
            reached.append((seeds, bits))
    ends, set_bits = (stacked(parts, axis=2) for parts in zip(*reached, strict=True))
    fixed = []
    for prg, values in ((NUMBER, numbers), (FACTOR, factors)):
        blocks = _long(expanded(prg, ends))
        fixed.append((values - blocks[0] + blocks[1]).opposed(set_bits[1]))
    return stacked(corrections, axis=1).reshape(len(n), 2 * of.depth), fixed[0], fixed[1]


def walk(
    root: Words, corrections: Words, b: Words, numbers: Long, factors: Long, of: Prefixes, holder: int
) -> tuple[Long, Long]:
    """A twin's shares of both numbers, (n, lengths) each, from its root, (n, 2), and what it was sent."""
    corrections = corrections.reshape(len(b), of.depth, 2)
    here = below = root
    bit = bit_below = filled((len(b),), holder, HALF)
    reached = []
    for level in range(of.depth):
        correction = corrections[:, level]
        right = ((b >> b.dtype.type(of.bits - 1 - level)) & b.dtype.type(1)).astype(bool)
        left, left_bit = corrected(LEFT, here, bit, correction)
        both = stacked([here, below]), stacked([bit, bit_below])
        others, other_bits = corrected(RIGHT, *both, correction)
        # the prefix before a right child is its left sibling, before a left one the cousin's right child
        below, bit_below = np.where(right[:, None], left, others[1]), np.where(right, left_bit, other_bits[1])
        here, bit = np.where(right[:, None], others[0], left), np.where(right, other_bits[0], left_bit)
        if level + 1 in of.lengths:
            reached.append((stacked([here, below]), stacked([bit, bit_below])))
    seeds, bits = (stacked(parts, axis=2) for parts in zip(*reached, strict=True))
    found = []
    for prg, fixed in ((NUMBER, numbers), (FACTOR, factors)):
        each = _long(expanded(prg, seeds)) + fixed.kept(bits)
        total = each[0] + each[1]
        found.append(total.opposed(ones(total.shape, HALF)) if holder else total)
    return found[0], found[1]


def _long(blocks: Words) -> Long:
    return Long(blocks[..., 0], blocks[..., 1])
