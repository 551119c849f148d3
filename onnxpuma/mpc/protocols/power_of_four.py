"""Scaling a positive value of unknown size to a fixed window by a power of four, in a few rounds.

For each power 4^d the twins hold shares of a count that is zero for small x (thresholds.py). They open it
under a mask that the pivot knows, and read [count = 0] from a table that it dealt for every masked count. The
scaled value and the power that undoes the scaling are linear in these bits. The pivot sends all of this at
once (docs/protocols.md, "Normalisation").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Pair, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost
from onnxpuma.mpc.protocols.long_words import Coming, LongPair, deal_long, deal_long_cost
from onnxpuma.mpc.protocols.thresholds import Thresholds, pivots_bits, twins_counts
from onnxpuma.mpc.ring.arrays import constants, flat, nothing
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words, reduced, resized, word, word_type


@dataclass
class Scaled:
    """v = x * 4^(high - d) with 4^(high-1) <= v < 2 * 4^high, and the power that undoes the scaling."""

    value: Pair  # v, in x's ring
    power: LongPair


def to_window(party: Party, x: Split, t: Thresholds) -> Protocol[Scaled]:
    """Split(p) of x, (n,), with 4^(low-1) <= x < 4^high (as words), scaled.

    An x of 4^high or more is not scaled; an x below 4^(low-1) yields a v below the window.
    Condition: x < 2^(k-1). Masks: F_{p+1} on what the pivot deals, and one part each of F_{p+1} and F_p on a
    count and on a threshold's bit. Rounds: 3, the first of them the exchange that brings x; bits:
    `window_cost`. There is one element a row.
    """
    return (yield from to_windows(party, [x], [t]))[0]


def to_windows(party: Party, values: Sequence[Split], every: Sequence[Thresholds]) -> Protocol[list[Scaled]]:
    """`to_window` of several values side by side, led by one pivot.

    Where the second is `cleared`, its power is zero if its lowest bit is set, and the power of the first is
    zero if it is not: then the sum of both results is that of the one that counts.
    """
    p, role, n = values[0].pivot, party.role(values[0].pivot), values[0].size
    gated = every[-1].cleared > 0
    if any(x.bits != t.bits for x, t in zip(values, every, strict=True)) or (gated and len(every) != 2):
        raise ProtocolError(f"{values} for {every}", "thresholds of the values' rings; one value clears one")
    if role == PIVOT:
        # 1. the pivot deals everything
        chosen = [_lead(party, x, t) for x, t in zip(values, every, strict=True)]
        if gated:
            both = Long.of_words(chosen[0] & chosen[1][:, :1])
            deal_long(party, p, both, n, every[0].power_widths)
        yield
        yield
        yield
        return [
            Scaled(
                Pair(role, p, nothing(x.shape, x.bits), x.format),
                LongPair(role, p, None, x.shape, t.power_bits),
            )
            for x, t in zip(values, every, strict=True)
        ]
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
        twin.learn()
    # 4. the rest is linear in rho, rho A and A
    if late is not None:
        twins[0].gate(twins[1], late.take())
    return [twin.scaled() for twin in twins]


def _lead(party: Party, x: Split, t: Thresholds) -> Words:
    """The pivot's part: it sends everything in the first round, and returns rho."""
    p, k, log = x.pivot, x.bits, t.count_log
    a = reduced(flat(x.words), k)
    n = len(a)
    for dealt in pivots_bits(t, a):
        deal(party, p, dealt, dealt.shape, log)
    mask = party.draw(p + 1, (n, t.count), log) + party.draw(p, (n, t.count), log)
    # the twins will hold count - mask: bit j of the word says whether j + mask is zero
    width = 1 << log
    place = reduced(word(0, log) - mask, log)
    zeros = word_type(width).type(1) << place.astype(word_type(width))
    party.send(p + 2, zeros ^ party.draw(p + 1, zeros.shape, width), width)
    rho = reduced(party.draw(p + 1, (n, t.count), 1) ^ party.draw(p, (n, t.count), 1), 1)
    deal_long(party, p, Long.of_words(rho), n, t.bit_widths)
    deal_long(party, p, Long.of_words(resized(rho, k) * a[:, None]), n, t.scale_widths)
    deal(party, p, a, a.shape, k)
    return rho


class _Twin:
    """A twin's part for one value."""

    def __init__(self, party: Party, x: Split, t: Thresholds) -> None:
        """Draw and announce what the pivot deals."""
        self.party, self.x, self.t = party, x, t
        p, role, n, log = x.pivot, party.role(x.pivot), x.size, t.count_log
        self.role, self.other, self.one = role, p + (V if role == U else U), int(role == U)
        _, bit, _ = t.compared
        self.bits = deal(party, p, None, (n, t.bits - t.first), log)
        self.lengths = deal(party, p, None, (n, len(bit)), log)
        key, shape, width = p + 1 if role == U else p, (n, t.count), 1 << log
        self.mask = party.draw(key, shape, log)
        self.zeros = party.draw(p + 1, shape, width) if role == U else party.expect(p, shape, width)
        self.rho = party.draw(key, shape, 1)
        self.late_rho: Coming = deal_long(party, p, None, n, t.bit_widths)
        self.late_rho_a: Coming = deal_long(party, p, None, n, t.scale_widths)
        self.late_a = deal(party, p, None, (n,), t.bits)

    def open_counts(self) -> None:
        log = self.t.count_log
        self.b = reduced(flat(self.x.words), self.t.bits)
        counts = twins_counts(self.t, self.b, self.role == U, taken(self.bits), taken(self.lengths))
        self.mine = counts - self.mask
        self.party.send(self.other, self.mine, log)
        self.theirs = self.party.expect(self.other, self.mine.shape, log)

    def open_bits(self) -> None:
        width = word_type(1 << self.t.count_log)
        opened = reduced(self.mine + self.theirs.take(), self.t.count_log)
        found = (taken(self.zeros) >> opened.astype(width)) & width.type(1)
        self.mine = resized(found, 1) ^ self.rho
        self.party.send(self.other, self.mine, 1)
        self.theirs = self.party.expect(self.other, self.mine.shape, 1)

    def learn(self) -> None:
        """Shares of the bits, in the ring of the power."""
        self.opened = (self.mine ^ self.theirs.take()) & word(1, 1)  # the bits xor rho
        self.dealt = self.late_rho.take()
        self.below = self._unmasked(self.dealt)
        rest = self.one * self.t.power_rest
        self.power = self._total(self.below) + Long.constants([rest])

    def _unmasked(self, rho: Long) -> Long:
        """The bits, from their masks."""
        return rho.opposed(self.opened) + Long.of_words(self.opened * word(self.one, 1))

    def _total(self, below: Long) -> Long:
        return (below * Long.constants(self.t.power_steps)).total()

    def gate(self, by: _Twin, both: Long) -> None:
        """The power where another value's lowest bit is set, else zero. both: shares of rho times rho."""
        other, small = by.opened[:, :1], by.below[:, :1]
        masks = self.dealt.kept(other) + both.opposed(other)  # rho where that bit is set
        below = masks.opposed(self.opened) + small.kept(self.opened)
        self.power = self._total(below) + small[:, 0] * Long.constants([self.t.power_rest])

    def scaled(self) -> Scaled:
        x, k, t = self.x, self.t.bits, self.t
        steps, a = constants(t.scale_steps, k), taken(self.late_a)
        d = resized(self.opened, k)
        rho_a = resized(self.late_rho_a.take().low, k)
        below_a = rho_a - d * (rho_a + rho_a) + d * a[:, None]
        scale = (resized(self.below.low, k) * steps).sum(axis=1, dtype=steps.dtype)
        value = (below_a * steps).sum(axis=1, dtype=steps.dtype) + scale * self.b + a
        if self.role == U:  # the scale is 1 where no threshold holds
            value = value + self.b
        return Scaled(
            Pair(self.role, x.pivot, value.reshape(x.shape), x.format),
            LongPair(self.role, x.pivot, self.power, x.shape, t.power_bits),
        )


def window_cost(elements: int, every: Sequence[Thresholds]) -> Cost:
    """The cost of `to_windows`."""
    bits = 0
    for t in every:
        log, number, (_, compared, _) = t.count_log, elements * t.count, t.compared
        bits += packed(elements * (t.bits - t.first), log) + packed(elements * len(compared), log)
        bits += packed(number, 1 << log) + 2 * packed(number, log) + 2 * packed(number, 1)
        bits += deal_long_cost(elements, t.bit_widths).bits + deal_long_cost(elements, t.scale_widths).bits
        bits += deal_cost(elements, t.bits).bits
    if every[-1].cleared:
        bits += deal_long_cost(elements, every[0].power_widths).bits
    return Cost(3, bits)
