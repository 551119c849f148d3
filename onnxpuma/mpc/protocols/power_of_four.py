"""Scaling a positive value of unknown size to a fixed window by a power of four, in a few rounds.

For each power 4^d the twins hold shares of a count that is zero for small x (thresholds.py). They open it
under a mask that the pivot knows, and read [count = 0] from a table that it dealt for every masked count. Or
the pivot deals them keys that yield the bits at once (prefixes.py). The scaled value and the power that
undoes the scaling are linear in these bits. The pivot sends all of this at once (docs/protocols.md,
"Normalisation").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Pair, Split
from onnxpuma.mpc.party import PIVOT, Later, Maybe, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost
from onnxpuma.mpc.protocols.long_words import LongPair, deal_long, deal_long_cost
from onnxpuma.mpc.protocols.prefixes import Prefixes, deal_prefixes, deal_prefixes_cost
from onnxpuma.mpc.protocols.thresholds import Thresholds, pivots_bits, twins_counts
from onnxpuma.mpc.ring.arrays import filled, flat, joined, nothing, zeros
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import WIDEST, Words, reduced, resized, word, word_type


@dataclass
class Scaled:
    """v = x * 4^(high - d) with 4^(high-1) <= v < 2 * 4^high, and the power that undoes the scaling."""

    value: Pair  # v, in x's ring
    power: LongPair
    small: LongPair | None = None  # by which the power must still be multiplied


def to_window(party: Party, x: Split, t: Thresholds, keyed: bool = False) -> Protocol[Scaled]:
    """Split(p) of x, (n,), with 4^(low-1) <= x < 4^high (as words), scaled.

    An x of 4^high or more is not scaled; an x below 4^(low-1) yields a v below the window.
    Condition: x < 2^(k-1). Masks: F_{p+1} on what the pivot deals, and one part each of F_{p+1} and F_p on a
    count and on a threshold's bit. Rounds: 3, the first of them the exchange that brings x. `keyed`: that
    round alone, for more bits; masks: those of prefixes.py, and F_{p+1} on A. Bits: `window_cost`. There is
    one element a row.
    """
    return (yield from to_windows(party, [x], [t], keyed))[0]


def to_windows(
    party: Party, values: Sequence[Split], every: Sequence[Thresholds], keyed: bool = False
) -> Protocol[list[Scaled]]:
    """`to_window` of several values side by side, led by one pivot.

    Where the second is `cleared`, its power is zero if its lowest bit is set, and the power of the first is
    zero if it is not: then the sum of both results is that of the one that counts. `keyed` leaves it to the
    caller to multiply the first power by that bit (`Scaled.small`).
    """
    p, role, n = values[0].pivot, party.role(values[0].pivot), values[0].size
    gated = every[-1].cleared > 0
    if any(x.bits != t.bits for x, t in zip(values, every, strict=True)) or (gated and len(every) != 2):
        raise ProtocolError(f"{values} for {every}", "thresholds of the values' rings; one value clears one")
    if keyed:
        found = [_Keyed(party, x, t) for x, t in zip(values, every, strict=True)]
        yield
        if role == PIVOT:
            return _results(values, every, gated)
        for each in found:
            each.evaluate()
        return _results(values, every, gated, found)
    if role == PIVOT:
        # 1. the pivot deals everything
        chosen = [_lead(party, x, t) for x, t in zip(values, every, strict=True)]
        if gated:
            both = Long.of_words(chosen[0] & chosen[1][:, :1])
            deal_long(party, p, both, n, every[0].power_widths)
        for _ in range(3):
            yield
        return _results(values, every, False)
    twins = [_Twin(party, x, t) for x, t in zip(values, every, strict=True)]
    late = deal_long(party, p, None, n, every[0].power_widths) if gated else None
    yield
    # 2. the twins open the masked counts
    for twin in twins:
        twin.open_counts()
    yield
    # 3. they read [count = 0] at the opened place, and open each threshold's bit under rho
    for twin in twins:
        twin.open_bits()
    yield
    for twin in twins:
        twin.unmask()
    # 4. the rest is linear in the bits and their products with A
    if late is not None:
        twins[0].gate(twins[1], late.take())
    return _results(values, every, False, twins)


def _results(
    values: Sequence[Split], every: Sequence[Thresholds], gated: bool, twins: Sequence[_Bits] = ()
) -> list[Scaled]:
    found = []
    for index, (x, t) in enumerate(zip(values, every, strict=True)):
        words: list[Long | None] = [None, None]
        value = nothing(x.shape, x.bits)
        if twins:
            words = [twins[index].power, twins[-1].below[:, 0]]
            value = twins[index].value().reshape(x.shape)
        power, small = (LongPair(x.role, x.pivot, w, x.shape, t.power_bits) for w in words)
        found.append(
            Scaled(Pair(x.role, x.pivot, value, x.format), power, small if gated and not index else None)
        )
    return found


def _lead(party: Party, x: Split, t: Thresholds) -> Words:
    """The pivot's part: it sends everything in the first round, and returns rho."""
    p, k = x.pivot, x.bits
    a = reduced(flat(x.words), k)
    n, rho = len(a), zeros((len(a), t.count), 1)
    deal(party, p, pivots_bits(t, a), (n, t.dealt), t.count_log)
    for run, log in t.runs:
        shape, width = (n, len(t.places[run])), 1 << log
        mask = party.draw(p + 1, shape, log) + party.draw(p, shape, log)
        zero_at = reduced(word(0, log) - mask, log)  # the twins will hold count - mask
        # bit j of a table says whether j + mask is zero
        table = word_type(width).type(1) << zero_at.astype(word_type(width))
        party.send(p + 2, table ^ party.draw(p + 1, shape, width), width)
    deal(party, p, a, a.shape, k)
    rho = reduced(party.draw(p + 1, (n, t.count), 1) ^ party.draw(p, (n, t.count), 1), 1)
    deal_long(party, p, Long.of_words(rho), n, t.bit_widths)
    deal_long(party, p, Long.of_words(resized(rho, k) * a[:, None]), n, t.scale_widths)
    return rho


class _Bits:
    """The thresholds' bits, and their products with A, in shares; and what is linear in them."""

    t: Thresholds
    one: int  # 1 at u, 0 at v
    b: Words
    below: Long
    below_a: Words
    late_a: Maybe

    def weigh(self) -> None:
        rest = self.one * self.t.power_rest
        self.power = self.total(self.below) + Long.constants([rest])

    def total(self, below: Long) -> Long:
        return below.dot(self.t.power_words)

    def value(self) -> Words:
        """The scaled value; the scale is 1 where no threshold holds."""
        steps = self.t.scale_words
        below = resized(self.below.low, self.t.bits)
        scale = (below * steps).sum(axis=1, dtype=steps.dtype) + steps.dtype.type(self.one)
        scaled: Words = (self.below_a * steps).sum(axis=1, dtype=steps.dtype)
        return scaled + scale * self.b + taken(self.late_a)


class _Keyed(_Bits):
    """The bits by keys. x < 4^d where the prefix of B, down to bit 2d, is that of -A or one more."""

    def __init__(self, party: Party, x: Split, t: Thresholds) -> None:
        """Deal or announce all that the pivot sends."""
        self.x, self.t, self.one = x, t, int(x.role == U)
        n, numbers, factors, a = x.size, None, None, None
        if x.role == PIVOT:
            a = reduced(flat(x.words), t.bits)
            numbers = Long.of_words(filled((n, t.count), 1, WIDEST))
            factors = Long.of_words(resized(a, WIDEST)[:, None] * numbers.low)
        own = None if a is None else a.dtype.type(0) - a
        self.keys = deal_prefixes(party, x.pivot, own, numbers, factors, n, _prefixes(t))
        self.late_a = deal(party, x.pivot, a, (n,), t.bits)

    def evaluate(self) -> None:
        self.b = reduced(flat(self.x.words), self.t.bits)
        bits, factors = self.keys.evaluate(self.b)
        self.below = bits[:, ::-1]
        self.below_a = resized(factors.low[:, ::-1], self.t.bits)
        self.weigh()


@lru_cache(maxsize=256)
def _prefixes(t: Thresholds) -> Prefixes:
    """Of both numbers, down to each threshold, the highest first."""
    lengths = tuple(t.bits - int(place) for place in t.places[::-1])
    return Prefixes(t.bits, lengths, tuple(t.bit_widths[::-1]), tuple(t.scale_widths[::-1]))


class _Twin(_Bits):
    """A twin's part for one value."""

    def __init__(self, party: Party, x: Split, t: Thresholds) -> None:
        """Draw and announce what the pivot deals."""
        self.party, self.x, self.t = party, x, t
        p, role, n = x.pivot, party.role(x.pivot), x.size
        self.role, self.other, self.one = role, p + (V if role == U else U), int(role == U)
        self.key = p + 1 if role == U else p
        self.bits = deal(party, p, None, (n, t.dealt), t.count_log)
        self.masks: list[Words] = []
        self.zeros: list[Maybe] = []
        for run, log in t.runs:
            shape, width = (n, len(t.places[run])), 1 << log
            self.masks.append(party.draw(self.key, shape, log))
            drawn = role == U
            self.zeros.append(party.draw(p + 1, shape, width) if drawn else party.expect(p, shape, width))
        self.late_a = deal(party, p, None, (n,), t.bits)
        self.rho = party.draw(self.key, (n, t.count), 1)
        self.late_rho, self.late_rho_a = (
            deal_long(party, p, None, n, w) for w in (t.bit_widths, t.scale_widths)
        )

    def open_counts(self) -> None:
        self.b = reduced(flat(self.x.words), self.t.bits)
        counts = twins_counts(self.t, self.b, self.role == U, taken(self.bits))
        self.mine, self.theirs = [], list[Later]()
        for (run, log), mask in zip(self.t.runs, self.masks, strict=True):
            mine = resized(counts[:, run], log) - mask
            self.party.send(self.other, mine, log)
            self.mine.append(mine)
            self.theirs.append(self.party.expect(self.other, mine.shape, log))

    def _opened(self) -> list[Words]:
        """For each run the counts less their masks."""
        logs = [log for _, log in self.t.runs]
        return [reduced(m + w.take(), log) for m, w, log in zip(self.mine, self.theirs, logs, strict=True)]

    def open_bits(self) -> None:
        found = []
        for opened, table, (_, log) in zip(self._opened(), self.zeros, self.t.runs, strict=True):
            width = word_type(1 << log)
            found.append(resized((taken(table) >> opened.astype(width)) & width.type(1), 1))
        self.bit = joined(found, axis=1) ^ self.rho
        self.party.send(self.other, self.bit, 1)
        self.their_bit = self.party.expect(self.other, self.bit.shape, 1)

    def unmask(self) -> None:
        """The same shares, from rho, rho A and A."""
        self.opened = (self.bit ^ self.their_bit.take()) & word(1, 1)  # the bits xor rho
        self.dealt = self.late_rho.take()
        self.below = self.dealt.opposed(self.opened) + Long.of_words(self.opened * word(self.one, 1))
        d, rho_a = resized(self.opened, self.t.bits), resized(self.late_rho_a.take().low, self.t.bits)
        self.below_a = rho_a - d * (rho_a + rho_a) + d * taken(self.late_a)[:, None]
        self.weigh()

    def gate(self, by: _Twin, both: Long) -> None:
        """The power where another value's lowest bit is set, else zero. both: shares of rho times rho."""
        other, small = by.opened[:, :1], by.below[:, :1]
        masks = self.dealt.kept(other) + both.opposed(other)  # rho where that bit is set
        below = masks.opposed(self.opened) + small.kept(self.opened)
        self.power = self.total(below) + small[:, 0] * Long.constants([self.t.power_rest])


def window_cost(elements: int, every: Sequence[Thresholds], keyed: bool = False) -> Cost:
    """The cost of `to_windows`."""
    if keyed:
        total = Cost()
        for t in every:
            total |= deal_prefixes_cost(elements, _prefixes(t)) | deal_cost(elements, t.bits)
        return total
    bits = 0
    for t in every:
        bits += packed(elements * t.dealt, t.count_log) + deal_cost(elements, t.bits).bits
        for run, log in t.runs:
            number = elements * len(t.places[run])
            bits += 2 * packed(number, log) + packed(number, 1 << log)
        bits += 2 * packed(elements * t.count, 1)
        bits += sum(deal_long_cost(elements, widths).bits for widths in (t.bit_widths, t.scale_widths))
    if every[-1].cleared:
        bits += deal_long_cost(elements, every[0].power_widths).bits
    return Cost(3, bits)
