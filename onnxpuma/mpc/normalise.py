"""Bringing a positive value of unknown size to a fixed window by a power of four, all in a few rounds.

For every digit d of base four the twins learn, under XOR shares, whether x < 4^d: the high part of A + B is
0 or -1 exactly when B's high digits equal those of -A or of -A - 1. Each equality is a count of unequal
digits, dealt as additive table entries; the twins open the count under a mask that the pivot knows, and the
pivot has dealt the table of [count = 0] at every masked value. Everything the pivot deals leaves it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.convert import deal, deal_cost, pass_on, replicate_pair
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, U, Party, Protocol, nothing, taken
from onnxpuma.mpc.shares import Pair, Replicated, Split
from onnxpuma.mpc.words import Words, reduced

COUNT_BITS = 8  # counts of unequal digits, at most 32, are opened mod 2^COUNT_LOG
COUNT_LOG = 6  # so the table of [count = 0] has 64 one-bit entries: one word


@dataclass
class Scaled:
    """v = x * 4^(top - d) with 4^(top-1) <= v < 2 * 4^top, and powers that undo the scaling.

    `value`: Split(p+1) mod 2^64 of v. `power`: Replicated of 2^(top - d), or of 4^(top - d).
    """

    value: Split
    power: Replicated


def _thresholds(low: int, high: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds d in [low, high), and the (threshold row, digit) pairs whose digits must agree."""
    digits = bits // 2
    thresholds = np.arange(low, high)
    row, digit = np.nonzero(np.arange(digits)[None, :] >= thresholds[:, None])
    return thresholds, row, digit


def normalise(party: Party, x: Split, low: int, high: int, squared: bool) -> Protocol[Scaled]:
    """Split(p) mod 2^64 of x, (n,), with 4^(low-1) <= x < 4^high (as words), to `Scaled` with top = high.

    A larger x than the range allows gives a wrong result, a smaller one a v below the window. The result is still on its way when this returns.
    `squared`: the power is 4^(high - d) (for a reciprocal), else 2^(high - d) (for a reciprocal root).
    Condition: high <= 30. Masks: tables and counts by F_{p+1} and F_p; a threshold's bit by rho.
    Rounds: 4, the first of them the exchange that brings x; bits: `normalise_cost`, some 4 KB an element
    for the whole range, which is one element a row.
    """
    p, role, n = x.pivot, party.role(x.pivot), x.size
    thresholds, row, digit = _thresholds(low, high, 64)
    count, entries = len(thresholds), len(digit)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    # [x < 4^d] for d = low .. high - 1 telescopes into the power: at d the scale 4^(high - d) comes in
    weight = np.array([1 << (2 * (high - d)) for d in thresholds], np.uint64)
    weight_next = np.concatenate([weight[1:], [np.uint64(1)]])
    scale_step = weight - weight_next
    root = np.array([1 << (high - d) for d in thresholds], np.uint64)
    root_step = root - np.concatenate([root[1:], [np.uint64(1)]])
    power_step = scale_step if squared else root_step
    other = p + (2 if role == U else 1)

    if role == PIVOT:
        a = reduced(np.ascontiguousarray(x.words).reshape(-1), 64)
        masks = np.zeros((2, n, count), np.uint8)
        for which in range(2):
            # digits of -(A >> 2d) - which, for every threshold d, on the digits at and above d
            shifted = a[:, None] >> (2 * thresholds).astype(np.uint64)[None, :]
            wanted = np.uint64(0) - shifted - np.uint64(which)
            wanted = wanted << (2 * thresholds).astype(np.uint64)[None, :]
            wanted_digit = ((wanted[:, row] >> (2 * digit).astype(np.uint64)[None, :]) & np.uint64(3)).astype(
                np.uint8
            )
            table = (np.arange(4, dtype=np.uint8)[None, None, :] != wanted_digit[:, :, None]).astype(np.uint8)
            deal(party, p, table, (n, entries, 4), COUNT_BITS)
            masks[which] = party.draw(p + 1, (n, count), COUNT_BITS) + party.draw(p, (n, count), COUNT_BITS)
        # the twins will hold count - mask mod 64 in the clear: entry j of the word says whether count = j + mask = 0
        zero_at = (np.uint8(0) - masks) & np.uint8((1 << COUNT_LOG) - 1)
        words = np.uint64(1) << zero_at.astype(np.uint64)
        hidden = party.draw(p + 1, (2, n, count), 64)
        party.send(p + 2, words ^ hidden, 64)
        rho = (party.draw(p + 1, (n, count), 8) ^ party.draw(p, (n, count), 8)) & np.uint8(1)
        deal(party, p, rho.astype(np.uint64), (n, count), 64)
        deal(party, p, rho * a[:, None], (n, count), 64)
        deal(party, p, a, (n,), 64)
        yield
        yield
        yield
        empty = Pair(role, p, nothing((n,), 64), 64, 0)
        value = pass_on(party, empty)
        return Scaled(value, replicate_pair(party, empty))

    key = p + 1 if role == U else p
    tables = []
    masks_half = []
    for _ in range(2):
        tables.append(deal(party, p, None, (n, entries, 4), COUNT_BITS))
        masks_half.append(party.draw(key, (n, count), COUNT_BITS))
    hidden_words = party.draw(p + 1, (2, n, count), 64) if role == U else party.expect(p, (2, n, count), 64)
    rho_half = party.draw(key, (n, count), 8) & np.uint8(1)
    late_rho = deal(party, p, None, (n, count), 64)
    late_rho_a = deal(party, p, None, (n, count), 64)
    late_a = deal(party, p, None, (n,), 64)
    yield
    b = reduced(np.ascontiguousarray(x.words).reshape(-1), 64)
    b_digit = ((b[:, None] >> (2 * digit).astype(np.uint64)[None, :]) & np.uint64(3)).astype(np.intp)
    mine = np.empty((2, n, count), np.uint8)
    for which in range(2):
        picked = np.take_along_axis(taken(tables[which]), b_digit[:, :, None], axis=2)[:, :, 0]
        mine[which] = np.add.reduceat(picked, starts, axis=1, dtype=np.uint8) - masks_half[which]
    party.send(other, mine, COUNT_BITS)
    late = party.expect(other, mine.shape, COUNT_BITS)
    yield
    opened = (mine + late.take()) & np.uint8((1 << COUNT_LOG) - 1)
    bit = ((taken(hidden_words) >> opened.astype(np.uint64)) & np.uint64(1)).astype(np.uint8)
    share = bit[0] ^ bit[1] ^ rho_half  # the two equalities exclude each other
    party.send(other, share, 1)
    late_share = party.expect(other, share.shape, 1)
    yield
    d = (share ^ late_share.take()).astype(np.uint64)
    flip = np.uint64(1) - (d + d)
    known = d if role == U else np.zeros_like(d)
    below = known + flip * taken(late_rho)  # additive halves of [x < 4^d]
    scale = (below * scale_step).sum(axis=1, dtype=np.uint64)
    below_a = d * taken(late_a)[:, None] + flip * taken(late_rho_a)
    value_words = (below_a * scale_step).sum(axis=1, dtype=np.uint64) + scale * b + taken(late_a)
    power_words = (below * power_step).sum(axis=1, dtype=np.uint64)
    if role == U:
        value_words += b  # the scale is 1 when no threshold holds
        power_words += np.uint64(1)
    value = pass_on(party, Pair(role, p, value_words, 64, x.fraction))
    return Scaled(value, replicate_pair(party, Pair(role, p, power_words, 64, 0)))


def normalise_cost(elements: int, low: int, high: int) -> Cost:
    thresholds, _, digit = _thresholds(low, high, 64)
    t = elements * len(thresholds)
    dealt = (
        2 * deal_cost(elements * len(digit) * 4, COUNT_BITS).bits
        + packed(2 * t, 64)
        + 2 * packed(t, 64)
        + packed(elements, 64)
    )
    opened = 2 * packed(2 * t, COUNT_BITS) + 2 * packed(t, 1)
    return Cost(4, dealt + opened + packed(elements, 64) + 2 * packed(elements, 64))
