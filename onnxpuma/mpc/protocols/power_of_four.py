"""Scaling a positive value of unknown size to a fixed window by a power of four, in a few rounds.

For each digit d of base four the twins compute XOR shares of [x < 4^d]: the high part of A + B is 0 or -1
exactly when B's high digits equal those of -A or of -A - 1. An equality is a count of unequal digits, whose
terms the pivot deals as additive table entries. The twins open the count under a mask that the pivot knows,
and read [count = 0] from a table that it dealt for every masked count. The pivot sends all of this at once
(docs/protocols.md, "Normalisation").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import (
    deal,
    deal_cost,
    pass_on,
    pass_on_cost,
    replicate_pair,
    replicate_pair_cost,
)
from onnxpuma.mpc.ring.arrays import contiguous, counting, flat, indices, nothing, ones, stacked
from onnxpuma.mpc.ring.words import WIDEST, Words, from_integers, reduced, resized, word, word_type

COUNT_LOG = 5  # counts of unequal digits, at most 31, are opened mod 2^COUNT_LOG: tables of 32 bits


@dataclass
class Scaled:
    """v = x * 4^(top - d) with 4^(top-1) <= v < 2 * 4^top, and a power that undoes the scaling."""

    value: Split  # v, of pivot p + 1, in x's ring
    power: Replicated  # 2^(top - d) or 4^(top - d), in x's ring or a larger one
    small: Replicated | None = None  # [x < 4^low], where the caller asks for it


@dataclass
class _Digits:
    """Thresholds 4^d for d in [low, high), and the digits that must agree for each of them."""

    low: int
    high: int
    bits: int

    def __post_init__(self) -> None:
        digits = indices(self.bits // 2)
        self.thresholds = indices(self.low, self.high)
        row, self.digit = np.nonzero(digits[None, :] >= self.thresholds[:, None])
        self.row = row  # (entries,): which threshold each compared digit belongs to
        self.starts = np.flatnonzero(np.diff(row, prepend=-1))
        self.count, self.entries = len(self.thresholds), len(self.digit)

    def of(self, words: Words) -> Words:
        """The compared digits: (n,) or (n, thresholds) words to (n, entries) values below four."""
        columns = words[:, None] if words.ndim == 1 else words[:, self.row]
        return (columns >> (2 * self.digit).astype(words.dtype)) & words.dtype.type(3)

    def wanted(self, a: Words, below: int) -> Words:
        """The digits of -(A >> 2d) - below at and above each d, where they stand in A: (n, thresholds)."""
        by = (2 * self.thresholds).astype(a.dtype)
        return (a.dtype.type(0) - (a[:, None] >> by) - a.dtype.type(below)) << by

    def steps(self, base: int, bits: int) -> Words:
        """Weights: 1 plus the weighted sum of [x < 4^d] is base^(high - d) of the lowest such d."""
        powers = from_integers(base ** (self.high - indices(self.low, self.high + 1)), WIDEST)
        return resized(powers[:-1] - powers[1:], bits)

    def rising(self, bits: int) -> Words:
        """Weights: 2^(high - low) plus the weighted sum is 2^(d - low)."""
        below = word(1, WIDEST) << from_integers(self.thresholds - self.low, WIDEST)
        return resized(word(0, WIDEST) - below, bits)


def to_window(
    party: Party,
    x: Split,
    low: int,
    high: int,
    squared: bool = False,
    count_log: int = COUNT_LOG,
    counted: bool = False,
    power_bits: int = 0,
    flagged: bool = False,
    rising: bool = False,
) -> Protocol[Scaled]:
    """Split(p) of x, (n,), with 4^(low-1) <= x < 4^high (as words), to `Scaled` with top = high.

    An x of 4^high or more is not scaled; an x below 4^(low-1) yields a v below the window. The result is
    still on its way when this returns. The power is 2^(high - d), for a reciprocal root; `squared`:
    4^(high - d), for a reciprocal; `counted`: the exponent high - d itself, for a logarithm; `rising`:
    2^(d - low), for a root. count_log: the twins open counts mod 2^count_log, which exceeds the number of
    digits. power_bits: of the power's ring, where it is larger than x's. `flagged`: also the bit [x < 4^low],
    which may be set for x < 2 * 4^low as well; where it is set, the power is the largest.
    Conditions: x's ring has an even number of bits k, and 2 high + 2 <= k. Masks: F_{p+1} and F_p on tables
    and counts, F_{p+1} on the table of zeros, rho on a threshold's bit (as in gate.py).
    Rounds: 4, the first of them the exchange that brings x; bits: `window_cost`, some 3 KB an element for the
    whole range. There is one element a row.
    """
    p, role, k = x.pivot, party.role(x.pivot), x.bits
    wide = max(k, power_bits)
    if k % 2 or not 0 < low < high or 2 * high + 2 > k or k // 2 - low >= 1 << count_log:
        raise ProtocolError(f"thresholds 4^{low} to 4^{high} for {x}", "1 <= low < high <= k / 2 - 1")
    digits = _Digits(low, high, k)
    if role == PIVOT:
        yield from _lead(party, x, digits, count_log, wide)
        empty = nothing(x.shape, wide)
        return _scaled(party, x, (nothing(x.shape, k), empty, empty if flagged else None), wide)

    key, other, one = p + 1 if role == U else p, p + (V if role == U else U), word_type(wide).type(1)
    per_threshold, n = (x.size, digits.count), x.size
    tables = [deal(party, p, None, (n, digits.entries, 4), count_log) for _ in range(2)]
    masks = [party.draw(key, per_threshold, count_log) for _ in range(2)]
    zeros_shape, width = (2, *per_threshold), 1 << count_log
    zeros = party.draw(p + 1, zeros_shape, width) if role == U else party.expect(p, zeros_shape, width)
    rho = party.draw(key, per_threshold, 1)
    late_rho = deal(party, p, None, per_threshold, wide)
    late_rho_a = deal(party, p, None, per_threshold, k)
    late_a = deal(party, p, None, (n,), k)
    yield
    # 2. each twin picks its entries by B's digits and adds them up; the twins open the masked counts
    b = reduced(flat(x.words), k)
    place = digits.of(b).astype(np.intp)[:, :, None]
    mine = stacked(
        [
            np.add.reduceat(np.take_along_axis(taken(t), place, 2)[:, :, 0], digits.starts, 1, m.dtype) - m
            for t, m in zip(tables, masks, strict=True)
        ]
    )
    party.send(other, mine, count_log)
    late = party.expect(other, mine.shape, count_log)
    yield
    # 3. the twins read [count = 0] at the opened place, and open each threshold's bit under rho
    opened = reduced(mine + late.take(), count_log)
    found = (taken(zeros) >> opened.astype(word_type(width))) & word_type(width).type(1)
    share = resized(found[0] ^ found[1], 1) ^ rho  # the two equalities exclude each other
    party.send(other, share, 1)
    late = party.expect(other, share.shape, 1)
    yield
    # 4. x < 4^d and (x < 4^d) A as additive halves; the rest is linear in them
    d = resized((share ^ late.take()) & word(1, 1), wide)
    flip = one - (d + d)
    below = flip * taken(late_rho) + (d if role == U else word_type(wide).type(0))
    below_a = resized(flip, k) * taken(late_rho_a) + resized(d, k) * taken(late_a)[:, None]
    scale_steps, power_steps = digits.steps(4, k), digits.steps(4 if squared else 2, wide)
    if counted:
        power_steps = ones(power_steps.shape, wide)
    if rising:
        power_steps = digits.rising(wide)
    nothing_holds = 0 if counted else 1 << (high - low) if rising else 1
    scale, power = _total(resized(below, k) * scale_steps), _total(below * power_steps)
    value = _total(below_a * scale_steps) + scale * b + taken(late_a)
    if role == U:  # the scale is 1 where no threshold holds
        value, power = value + b, power + word_type(wide).type(nothing_holds)
    small = contiguous(below[:, 0]) if flagged else None
    return _scaled(party, x, (value, power, small), wide)


def _scaled(party: Party, x: Split, words: tuple[Words, Words, Words | None], wide: int) -> Scaled:
    """Pass on the value and replicate its power and its bit, from the twins' halves."""
    role, p, (value, power, small) = party.role(x.pivot), x.pivot, words
    made = pass_on(party, Pair(role, p, value.reshape(x.shape), x.format))
    others = [
        None if w is None else replicate_pair(party, Pair(role, p, w.reshape(x.shape), Format(wide, 0)))
        for w in (power, small)
    ]
    assert others[0] is not None
    return Scaled(made, others[0], others[1])


def _lead(party: Party, x: Split, digits: _Digits, count_log: int, wide: int) -> Protocol[None]:
    """The pivot's part: it sends everything in the first round."""
    p, k = x.pivot, x.bits
    a = reduced(flat(x.words), k)
    per_threshold, width = (len(a), digits.count), 1 << count_log
    # 1. for both carries into d, the twins' entries: 1 where B's digit is not the wanted one
    for below in range(2):
        wanted = digits.of(digits.wanted(a, below))
        table = counting(4, 8) != wanted[:, :, None]
        deal(party, p, resized(table, count_log), table.shape, count_log)
    masks = [
        party.draw(p + 1, per_threshold, count_log) + party.draw(p, per_threshold, count_log)
        for _ in range(2)
    ]
    # the twins will hold count - mask: bit j of the word says whether j + mask is zero
    zero_at = reduced(word(0, count_log) - stacked(masks), count_log)
    zeros = word_type(width).type(1) << zero_at.astype(word_type(width))
    party.send(p + 2, zeros ^ party.draw(p + 1, zeros.shape, width), width)
    rho = reduced(party.draw(p + 1, per_threshold, 1) ^ party.draw(p, per_threshold, 1), 1)
    deal(party, p, rho, per_threshold, wide)
    deal(party, p, resized(rho, k) * a[:, None], per_threshold, k)
    deal(party, p, a, a.shape, k)
    yield
    yield
    yield


def _total(words: Words) -> Words:
    return words.sum(axis=1, dtype=words.dtype)


def window_cost(
    elements: int,
    low: int,
    high: int,
    bits: int,
    count_log: int = COUNT_LOG,
    power_bits: int = 0,
    flagged: bool = False,
) -> Cost:
    digits = _Digits(low, high, bits)
    t = elements * digits.count
    dealt = 2 * packed(elements * digits.entries * 4, count_log) + packed(2 * t, 1 << count_log)
    wide = max(bits, power_bits)
    dealt += deal_cost(t, wide).bits + deal_cost(t, bits).bits + deal_cost(elements, bits).bits
    opened = 2 * packed(2 * t, count_log) + 2 * packed(t, 1)
    passed = pass_on_cost(elements, bits).bits
    return Cost(4, dealt + opened + passed + (1 + flagged) * replicate_pair_cost(elements, wide).bits)
