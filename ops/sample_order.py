"""A draw among the few largest scores of each row: top-k, and what top-p and min-p leave of them.

The row is shuffled and its k largest are found in their order (mpc/protocols/order.py). So the share of the
sum that lies above each of them is a local sum, and noise is drawn for k scores alone. One more shuffle, and
the largest of these with their noise is the draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost, Network
from onnxpuma.mpc.format import WHOLE, Format
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.gumbel import LEAST, MOST, gumbel
from onnxpuma.mpc.protocols.order import leading, leading_cost, schedule
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.shuffle import shuffled, shuffled_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.protocols.unsigned import unsigned, unsigned_cost
from onnxpuma.ops.sample_filters import (
    FRACTION,
    WINDOW,
    passed,
    passed_cost,
    share_of,
    share_of_cost,
    weight_bits,
    weights_of,
    weights_of_cost,
    windowed,
    windowed_cost,
)
from onnxpuma.ops.sample_steering import Steering

# A score is rounded three times, its place among the others by their exact values: it comes out less than
# this above the largest.
_ABOVE = 4 * 2.0**-FRACTION


@dataclass(frozen=True)
class Ordered:
    """How rows are read whose scores differ by less than `apart`."""

    steering: Steering
    length: int
    apart: float

    @property
    def count(self) -> int:
        """Scores of a row that are left, or more."""
        return self.steering.most

    @property
    def fraction(self) -> int:
        """Fraction bits of a score: as many in units of the temperature as elsewhere, or more."""
        return FRACTION + max(0, math.ceil(-math.log2(self.steering.lowest)))

    @property
    def read(self) -> Format:
        """The ring of a score less another one of its row."""
        return Format(self.fraction + 1 + math.ceil(math.log2(1.01 * self.apart + 2.0**-8)), self.fraction)

    @property
    def lifted(self) -> float:
        """Added to a score with its noise, so that it is above zero."""
        return math.ceil(1 - LEAST * self.steering.highest)

    @property
    def bits(self) -> int:
        """Of the ring that holds a score from zero on, and its noise."""
        most = 2.0 ** (self.read.bits - self.fraction) + self.steering.highest * MOST + self.lifted
        return self.fraction + 1 + math.ceil(math.log2(most + 1))

    @property
    def places(self) -> int:
        """Bits of a place in a row."""
        return max(1, (self.length - 1).bit_length())

    @property
    def word(self) -> int:
        """Bits of the ring of a score with its place behind it."""
        return self.bits + self.places

    @property
    def further(self) -> bool:
        """Whether anything is ruled out beyond top-k."""
        return self.steering.top_p or self.steering.min_p

    @property
    def shift(self) -> int:
        """Fraction bits of `factors`, so many that each is 2^FRACTION or more."""
        return FRACTION + max(0, math.ceil(math.log2(self.steering.highest)) + self.fraction - FRACTION)

    @property
    def factors(self) -> np.ndarray:
        """A unit of a score in units of 2^-FRACTION of the temperature, (settings, 1)."""
        scale = 2.0 ** (self.shift + FRACTION - self.fraction)
        return np.rint(scale / self.steering.temperatures).astype(np.int64)


def drawn(
    party: Party, x: Replicated, out: np.ndarray | None, how: Ordered, network: Network
) -> Protocol[Replicated]:
    """The place drawn from each row (rows, n) of scores in the format `how.read`: (rows,), in WHOLE.

    out: the places of scores that are ruled out for public reasons; a row has another one. Condition: two
    scores of a row differ by less than `how.apart`, or the wrong place is drawn. Rounds and bits:
    `drawn_cost`.
    """
    rows, length = x.shape
    stages = schedule(rows, length, how.count, how.word, network)
    # 1. numbers from zero on, distinct by the places behind them; what is ruled out is at the end
    first = np.zeros((rows, 1), np.int64) if out is None else (~out).argmax(axis=1)[:, None]
    apart = x - x.take_along(first, 1).broadcast_to(x.shape)
    whole = yield from _from_zero(party, apart.plus_numbers(2.0 ** (how.read.bits - 1 - how.fraction)), how)
    whole = whole if out is None else whole.zeroed(out)
    marked = _behind(whole, how).plus_numbers(np.arange(length))
    # 2. in a secret order, the largest
    held = yield from settle(party, (yield from shuffled(party, marked)))
    best = yield from leading(party, held, how.count, stages)
    left = how.steering.counts if out is None else np.minimum(how.steering.counts, (~out).sum(1)[:, None])
    gone = np.arange(how.count) >= left if left.min() < how.count else None
    # 3. with noise, those that pass what else there is
    noise = gumbel(party, best.shape, how.steering.temperatures, Format(how.bits, how.fraction))
    noise = noise.plus_numbers(how.lifted)
    if how.further:
        best = yield from _filtered(party, best, noise, gone, how)
    else:
        best = best + _behind(noise, how)
        if gone is not None:
            gone = np.broadcast_to(gone, best.shape)
            best = best.zeroed(gone).plus_numbers(np.where(gone, np.arange(how.count), 0))
    # 4. in another secret order, the largest of these
    held = yield from settle(party, (yield from shuffled(party, best)))
    last = yield from leading(party, held, 1, schedule(rows, how.count, 1, how.word, network))
    return (yield from unsigned(party, last[:, 0].modulo(how.places), WHOLE.bits, party.next_pivot()))


def drawn_cost(rows: int, how: Ordered, network: Network) -> Cost:
    length, k, word = how.length, how.count, how.word
    n = rows * length
    total = over_parts(n, lambda m: unsigned_cost(m, how.read.bits, how.bits))
    total = total + shuffled_cost(rows, length, word)
    total = total + leading_cost(rows, length, word, schedule(rows, length, k, word, network))
    total = total + (_filtered_cost(rows, how) if how.further else FREE)
    total = total + shuffled_cost(rows, k, word)
    total = total + leading_cost(rows, k, word, schedule(rows, k, 1, word, network))
    return total + unsigned_cost(rows, how.places, WHOLE.bits)


def _from_zero(party: Party, x: Replicated, how: Ordered) -> Protocol[Replicated]:
    return (yield from spread(party, x, lambda part, pivot: unsigned(party, part, how.bits, pivot)))


def _behind(x: Replicated, how: Ordered) -> Replicated:
    """Room for a place behind a number; a unit of the result is one of the place."""
    return x.raised(how.places).with_fraction(0)


def _filtered(
    party: Party, best: Replicated, noise: Replicated, gone: np.ndarray | None, how: Ordered
) -> Protocol[Replicated]:
    """The scores that pass, with noise and their places behind; of the others the places alone."""
    number = best.with_fraction(how.fraction + how.places).lowered(how.places)
    apart = number - number[:, :1].broadcast_to(number.shape)
    places = unsigned(party, best.modulo(how.places).flat(), how.word, party.next_pivot())
    scores = _passing(party, apart, number + noise, gone, how)
    left, behind = yield from parallel([scores, places])
    left = left if gone is None else left.zeroed(gone)
    return _behind(left, how) + behind.reshape(best.shape)


def _passing(
    party: Party, apart: Replicated, number: Replicated, gone: np.ndarray | None, how: Ordered
) -> Protocol[Replicated]:
    steering = how.steering
    if steering.min_p:
        floor = -steering.temperatures * steering.floors
        number = yield from passed(party, apart.plus_numbers(floor), number)
    if steering.top_p:
        # the weights of the scores, and the sum of those before each
        bits, pivot = weight_bits(how.count), party.next_pivot()
        wide = yield from lift(party, see(party, apart.flat(), pivot), how.bits + how.shift)
        wide = wide.reshape(apart.shape).with_fraction(FRACTION)
        cool = wide.times_integers(how.factors, how.shift).lowered(how.shift)
        y = yield from windowed(party, cool.plus_numbers(WINDOW - _ABOVE))
        weights = yield from weights_of(party, y, bits)
        weights = weights if gone is None else weights.zeroed(gone)
        share = yield from share_of(party, weights.sum(-1), steering.shares[:, 0])
        before = weights.cumsum(1) - weights
        room = share.modulo(bits).reshape(-1, 1).broadcast_to(before.shape) - before
        number = yield from passed(party, room.plus_numbers(-room.format.unit), number)
    return number


def _filtered_cost(rows: int, how: Ordered) -> Cost:
    n, steering, total = rows * how.count, how.steering, FREE
    if steering.min_p:
        total = total + passed_cost(n, how.bits, how.bits)
    if steering.top_p:
        bits = weight_bits(how.count)
        total = total + lift_cost(n, how.bits, how.bits + how.shift) + windowed_cost(n, how.bits)
        total = total + weights_of_cost(n, bits) + share_of_cost(rows, bits) + passed_cost(n, bits, how.bits)
    return total | unsigned_cost(n, how.places, how.word)
