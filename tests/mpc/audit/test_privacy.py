"""No party learns anything: every protocol enumerated in a tiny ring, and probed at full width.

A case is a protocol, its input words, and who knows each of them. What the checks can find is tested in
test_audit.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any
from unittest import mock

import numpy as np
import pytest

from onnxpuma.mpc.audit.enumeration import leaks, uniform, unmasked
from onnxpuma.mpc.audit.views import (
    Input,
    Program,
    Recording,
    Source,
    everything,
    random_inputs,
    random_source,
    record,
)
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split, Sum3, see, stacked
from onnxpuma.mpc.party import PIVOT, Party, Protocol, taken
from onnxpuma.mpc.protocols import (
    argmax,
    boolean,
    by_twos,
    carry,
    clamp,
    compare,
    convert,
    cutoff,
    exp_softmax,
    fours,
    gate,
    gumbel,
    histogram,
    lifting_gate,
    linear,
    maximum,
    power_of_four,
    reciprocal,
    smooth,
    square_root,
    wide_root,
)
from onnxpuma.mpc.protocols.boolean import Circuit, Table, xor
from onnxpuma.mpc.protocols.compare import is_negative, locate, wide_negative
from onnxpuma.mpc.protocols.convert import deal, settle
from onnxpuma.mpc.protocols.exact_series import series_long, series_plus, series_times
from onnxpuma.mpc.protocols.exponential import exponential
from onnxpuma.mpc.protocols.fourier import Series, all_series, evaluate_series
from onnxpuma.mpc.protocols.histogram import Histogram
from onnxpuma.mpc.protocols.inside import inside
from onnxpuma.mpc.protocols.long_words import Coming, LongPair, LongSplit, pass_on_long
from onnxpuma.mpc.protocols.noisy import noisy
from onnxpuma.mpc.protocols.prefixes import Prefixes
from onnxpuma.mpc.protocols.row_factor import times_factors
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.truncate import lift, resolve
from onnxpuma.mpc.protocols.unsigned import unsigned
from onnxpuma.mpc.protocols.wide import combined, wide_zero
from onnxpuma.mpc.protocols.widen import lift_pair, widen
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words, from_integers, reduced, signed

P = 1  # the pivot of every case


def replicated(bits: int, count: int = 1) -> list[Input]:
    return [Input(bits, frozenset({j, (j + 2) % 3})) for j in range(3)] * count


def split_words(bits: int, count: int = 1) -> list[Input]:
    return [Input(bits, frozenset({P})), Input(bits, frozenset({(P + 1) % 3, (P + 2) % 3}))] * count


def noises(bits: int) -> list[Input]:
    return [Input(bits, frozenset({j})) for j in range(3)]


def pair_words(bits: int, count: int = 1) -> list[Input]:
    return [Input(bits, frozenset({(P + 1) % 3})), Input(bits, frozenset({(P + 2) % 3}))] * count


def as_replicated(party: Party, words: Sequence[Words], bits: int, fraction: int = 0) -> Replicated:
    return Replicated(party.index, words[party.index], words[(party.index + 1) % 3], Format(bits, fraction))


def as_split(party: Party, words: Sequence[Words], bits: int) -> Split:
    role = party.role(P)
    return Split(role, P, words[0] if role == PIVOT else words[1], Format(bits, 0))


def as_pair(party: Party, words: Sequence[Words], bits: int) -> Pair:
    role = party.role(P)
    return Pair(role, P, nothing(words[0].shape, bits) if role == PIVOT else words[role - 1], Format(bits, 0))


def as_bit(party: Party, words: Sequence[Words]) -> Bit:
    role, n = party.role(P), len(words[0])
    plane = np.packbits(words[max(role, 1) - 1] & np.uint8(1), bitorder="little")
    return Bit(role, P, nothing(plane.shape, 8) if role == PIVOT else plane, (n,))


def done(x: Any) -> Protocol[Any]:
    """Whatever is still on its way arrives."""
    yield
    return x


# -- the protocols, at any ring width k --------------------------------------------------


def product_split(k: int, party: Party, *w: Words) -> Protocol[Any]:
    z = linear.multiply(party, as_replicated(party, w[:3], k), as_replicated(party, w[3:], k))
    return (yield from done(convert.split(party, z.with_fraction(1), P, Format(k - 1, 0))))


def square_resolved(k: int, shift: int, party: Party, *w: Words) -> Protocol[Any]:
    x = as_replicated(party, w, k, shift)
    return (yield from resolve(party, linear.multiply(party, x, x), P, Format(k, shift)))


def square_lowered(k: int, shift: int, party: Party, *w: Words) -> Protocol[Any]:
    """To the ring that the shift leaves: one exchange."""
    x = as_replicated(party, w, k, shift)
    return (yield from resolve(party, linear.multiply(party, x, x), P, Format(k - shift, shift)))


def replicated_resolved(k: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from resolve(party, as_replicated(party, w, k, 1), P, Format(k, 0)))


def summed(k: int, party: Party, *w: Words) -> Protocol[Any]:
    z = Sum3(party.index, w[party.index] * w[(party.index + 1) % 3], Format(k, 0))
    return (yield from settle(party, convert.replicate_sum(party, z)))


def with_noise(k: int, party: Party, *w: Words) -> Protocol[Any]:
    """Each party's noise is an input that it alone holds."""
    z = noisy(as_replicated(party, w[:3], k), w[3 + party.index])
    return (yield from settle(party, convert.replicate_sum(party, z)))


def noise_split(k: int, party: Party, *w: Words) -> Protocol[Any]:
    z = noisy(as_replicated(party, w[:3], k), w[3 + party.index])
    return (yield from done(convert.split(party, z, P, z.format)))


def pair_replicated(k: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from settle(party, convert.replicate_pair(party, as_pair(party, w, k))))


def pair_passed(k: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from done(convert.pass_on(party, as_pair(party, w, k))))


def pairs_and_their_sum(k: int, party: Party, *w: Words) -> Protocol[Any]:
    """Two Pairs become Replicated while their sum leaves for the next pivot, as in a softmax."""
    first, second = as_pair(party, w[:2], k), as_pair(party, w[2:], k)
    found = [convert.replicate_pair(party, first), convert.replicate_pair(party, second)]
    return (yield from done((*found, convert.pass_on(party, first + second))))


def pair_widened(k: int, bits: int, function: Any, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from function(party, as_pair(party, w, k), bits))


def dealt(k: int, party: Party, *w: Words) -> Protocol[Any]:
    half = deal(party, P, w[0] if party.role(P) == PIVOT else None, w[0].shape, k)
    yield
    return Pair(party.role(P), P, taken(half), Format(k, 0))


def lifted(k: int, bits: int, seen: bool, party: Party, *w: Words) -> Protocol[Any]:
    x = see(party, as_replicated(party, w, k), P) if seen else as_split(party, w, k)
    return (yield from lift(party, x, bits))


def circuit(k: int, which: Circuit, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from boolean.evaluate(party, as_split(party, w, k), which))


def compared(k: int, function: Any, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from function(party, as_split(party, w, k)))


def grouped(k: int, widths: tuple[int, ...], party: Party, *w: Words) -> Protocol[Any]:
    way = compare.Signs(widths, len(widths), 1)
    bits = yield from carry.group_carries(party, as_split(party, w, k), widths)
    return (yield from combined(party, bits, way.first))


def gated(k: int, seen: bool, party: Party, *w: Words) -> Protocol[Any]:
    x = see(party, as_replicated(party, w[2:], k), P) if seen else as_split(party, w[2:], k)
    return (yield from gate.gate(party, as_bit(party, w), x))


def gate_lifted(k: int, bits: int, seen: bool, beside: bool, party: Party, *w: Words) -> Protocol[Any]:
    x = as_replicated(party, w[2:5], k) if seen else as_split(party, w[2:4], k)
    other = see(party, as_replicated(party, w[-3:], bits), P) if beside else None
    return (yield from lifting_gate.lifting_gate(party, as_bit(party, w), x, bits, beside=other))


def from_zero(k: int, bits: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from unsigned(party, as_replicated(party, w, k), bits, P))


def bit_as_number(k: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from gate.arithmetic(party, as_bit(party, w), k))


def rows(k: int, length: int, party: Party, *w: Words, by: Any = maximum.row_maximum) -> Protocol[Any]:
    every = [np.stack(w[i::2], axis=1).reshape(-1) for i in range(2)]
    x = as_split(party, every, k)
    return (yield from settle(party, (yield from by(party, x, np.full(len(w[0]), length)))))


def best_of(k: int, length: int, party: Party, *w: Words) -> Protocol[Any]:
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(length)]
    first, second = (np.stack([getattr(x, side) for x in shared], axis=1) for side in ("first", "second"))
    rows = Replicated(party.index, first, second, Format(k, 0))
    values, places = yield from by_twos.tournament(party, rows, P)
    return [(yield from settle(party, values)), *places]


def mixed(k: int, length: int, party: Party, *w: Words) -> Protocol[Any]:
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(length)]
    rows = stacked(shared, axis=1)
    return list((yield from argmax.first_by_twos(party, rows, 0, P, k, 3)))


def best_of_group(k: int, size: int, secret: bool, party: Party, *w: Words) -> Protocol[Any]:
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(2 * size if secret else size)]
    values = stacked(shared[:size], axis=1)
    places = stacked(shared[size:], axis=1) if secret else from_integers(np.arange(size), k)
    found = yield from fours.largest_of_four(party, values, places, P, k)
    return (yield from done(found))


def drawn_from(k: int, length: int, party: Party, *w: Words) -> Protocol[Any]:
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(length)]
    scores = stacked(shared, axis=1)
    noisy = scores + gumbel.gumbel(party, scores.shape, 1.0, scores.format)
    values, places = yield from by_twos.tournament(party, noisy, P)
    return [(yield from settle(party, values)), *places]


def reached(
    k: int, length: int, thresholds: tuple[int, ...], bits: int, weighed: bool, party: Party, *w: Words
) -> Protocol[Any]:
    """How many elements of a row, or how much of their weights, reach each threshold."""
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(length)]
    rest = w[3 * length :]
    weights = [as_replicated(party, rest[3 * i : 3 * i + 3], bits) for i in range(length if weighed else 0)]
    x = see(party, stacked(shared, axis=1), P)
    held = see(party, stacked(weights, axis=1), P) if weighed else None
    found = yield from done((yield from cutoff.reaching(party, x, thresholds, held, bits)))
    return [found[:, number] for number in range(len(thresholds))]


def series_of(k: int, series: Series, fraction: int, bits: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from evaluate_series(party, series, as_split(party, w, k), fraction, bits))


def window_exp(k: int, unit: int, cases: int, width: int, party: Party, *w: Words) -> Protocol[Any]:
    window = exp_softmax.Window(unit, cases, 10)
    return (yield from exp_softmax.exp_window(party, as_split(party, w, k), window, width))


def wide_powers(k: int, window: exp_softmax.Window, bits: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from exp_softmax.exp_window_long(party, as_split(party, w, k), window, bits))


def near_the_largest(
    k: int, how: Histogram, length: int, bits: int, party: Party, *w: Words
) -> Protocol[Any]:
    """The first element of each row is zero: the others are less it."""
    zero = np.zeros_like(w[0])
    every = [np.stack([zero, *w[i::2]], axis=1).reshape(-1) for i in range(2)]
    x, lengths = as_split(party, every, k), np.full(len(w[0]), length)
    return (yield from settle(party, (yield from histogram.row_peak(party, x, lengths, how, bits))))


def counted(k: int, party: Party, *w: Words) -> Protocol[Any]:
    share = w[max(party.role(P), 1) - 1]
    return (yield from histogram.zero_counts(party, P, share, share.shape, k))


def inside_of(k: int, shift: int, cases: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from inside(party, as_split(party, w, k), shift, cases))


def scaled(t: Thresholds, party: Party, *w: Words, keyed: bool = False) -> Protocol[Any]:
    return (yield from power_of_four.to_window(party, as_split(party, w, t.bits), t, keyed))


class HiddenKeys:
    """Prefix keys whose corrections words of both roots' streams hide, of which each twin lacks one:
    test_prefixes.py shows that of real ones. Their shares mean nothing."""

    def __init__(
        self, party: Party, pivot: int, n: Any, numbers: Any, factors: Any, rows: int, of: Prefixes
    ) -> None:
        shape, role, self.count = (
            (rows, 2 * of.depth + 4 * len(of.lengths)),
            party.role(pivot),
            len(of.lengths),
        )
        masks = [party.draw(pivot + key, shape, 64) for key, other in ((1, 2), (0, 1)) if role != other]
        if role == PIVOT:
            words = masks[0] + masks[1] + n.astype(np.uint64)[:, None] * np.uint64(3)
            for twin in (1, 2):
                party.send(pivot + twin, words, 64)
        else:
            self.words = party.expect(pivot, shape, 64)

    def evaluate(self, b: Words) -> tuple[Long, Long]:
        words = self.words.take() ^ b.astype(np.uint64)[:, None]
        return Long.of_words(words[:, : self.count]), Long.of_words(words[:, -self.count :])


def with_hidden_keys(program: Program) -> Program:
    """A program that deals prefix keys in its first round, with hidden ones."""

    def started(party: Party, *w: Words) -> Protocol[Any]:
        running = program(party, *w)
        with mock.patch.object(power_of_four, "deal_prefixes", HiddenKeys):
            next(running)
        yield
        return (yield from running)

    return started


def scaled_side_by_side(first: Thresholds, second: Thresholds, party: Party, *w: Words) -> Protocol[Any]:
    values = [as_split(party, w[2 * i :], t.bits) for i, t in enumerate((first, second))]
    return (yield from power_of_four.to_windows(party, values, [first, second]))


def long_passed(bits: int, party: Party, *w: Words) -> Protocol[Any]:
    role = party.role(P)
    words = None if role == PIVOT else Long.of_words(w[role - 1]) * Long.constants([3 << 60])
    return (yield from done(pass_on_long(party, LongPair(role, P, words, w[0].shape, bits))))


def long_split(party: Party, w: Sequence[Words], bits: int) -> LongSplit:
    words = Long.of_words(w[0] if party.role(P) == PIVOT else w[1]) * Long.constants([3 << 60])
    return LongSplit(party.role(P), P, Coming([[words.low, words.high]]), bits)


def row_times(k: int, wide: int, made: int, party: Party, *w: Words) -> Protocol[Any]:
    """A row of one element a lane, times a factor that the twins hold."""
    role = party.role(P)
    words = None if role == PIVOT else Long.of_words(w[3:][role - 1]) * Long.constants([3 << (wide - 30)])
    x = as_replicated(party, w[:3], k).reshape(-1, 1)
    factors = LongPair(role, P, words, w[0].shape, wide)
    return (yield from times_factors(party, x, factors, wide - made, Format(made, 0)))


def fine_series(party: Party, *w: Words) -> Protocol[Any]:
    return (yield from series_long(party, TINY, as_split(party, w, 26), 70, 24))


def series_by(count: int, bits: int, party: Party, *w: Words) -> Protocol[Any]:
    x = as_split(party, w, 26)
    powers = [long_split(party, w[2 * i + 2 :], bits) for i in range(count)]
    return (yield from series_times(party, TINY, x, powers, 20))


def series_and(bits: int, party: Party, *w: Words) -> Protocol[Any]:
    more = long_split(party, w[2:], bits)
    return (yield from series_plus(party, TINY, as_split(party, w, 26), more, 5, 20))


def length_of_two(party: Party, *w: Words) -> Protocol[Any]:
    x = as_replicated(party, w, 64, 18)
    fine, coarse = (linear.multiply(party, v, v) for v in (x, x.lowered(14)))
    return (yield from square_root.wide_square_root(party, fine, coarse, P, RESTING, 28))


def root_of_two(party: Party, *w: Words, way: Way = Way.MASKED) -> Protocol[Any]:
    x = as_replicated(party, w, 64, 18)
    fine, coarse = (linear.multiply(party, v, v) for v in (x, x.lowered(14)))
    return (yield from wide_root.wide_rsqrt(party, fine, coarse, P, RESTING.at(24), 28, way=way))


def activated(
    name: str, product: bool, party: Party, *w: Words, argument: float | None = None, fast: bool = False
) -> Protocol[Any]:
    x: Replicated | Sum3 = as_replicated(party, w, 64, 18)
    if product:
        x = linear.multiply(party, as_replicated(party, w, 64, 18), as_replicated(party, w, 64, 18))
    series = all_series()[name]
    ways = smooth.readings(series, argument, type(x), x.format, RESTING)
    return (yield from smooth.activation(party, x, series, P, RESTING, argument, ways[-1] if fast else None))


def of_one(function: Any, *settings: Any) -> Program:
    return lambda party, *w: function(party, as_replicated(party, w, 64, 18), P, *settings)


@dataclass(frozen=True)
class Case:
    """`results`: the values that come out of valid inputs; others tell that the input was not valid."""

    name: str
    program: Program
    inputs: list[Input]
    results: range | None = None


TINY = Series("tiny", 4, (0.5, 1.0, 0.75))
SMALL_EQUAL = Circuit(
    2, tuple(Table(f"equal{d}", d, 1, lambda a, b: a == b) for d in range(2)), (xor((0, 1)),)
)

ENUMERATED = [
    Case("product to split", partial(product_split, 2), replicated(2, 2)),
    Case("product resolved", partial(square_resolved, 3, 1), replicated(3), range(-1, 1)),
    Case("product lowered", partial(square_lowered, 3, 1), replicated(3)),
    Case("replicated resolved", partial(replicated_resolved, 4), replicated(4), range(-2, 2)),
    Case("sum replicated", partial(summed, 2), [Input(2, frozenset({j, (j + 2) % 3})) for j in range(3)]),
    Case("noise, replicated", partial(with_noise, 2), replicated(2) + noises(2)),
    Case("noise, split", partial(noise_split, 2), replicated(2) + noises(2)),
    Case("pair replicated", partial(pair_replicated, 3), pair_words(3)),
    Case("pair passed on", partial(pair_passed, 3), pair_words(3)),
    Case("pairs replicated, their sum passed on", partial(pairs_and_their_sum, 1), pair_words(1, 2)),
    Case("pair widened", partial(pair_widened, 3, 5, widen), pair_words(3)),
    Case("pair lifted", partial(pair_widened, 2, 3, lift_pair), pair_words(2), range(-1, 1)),
    Case("a number from zero on", partial(from_zero, 1, 3), replicated(1), range(2)),
    Case("dealt", partial(dealt, 3), [Input(3, frozenset({P}))]),
    Case("lift of a replicated value", partial(lifted, 2, 3, True), replicated(2), range(-1, 1)),
    Case("lift by two bits", partial(lifted, 3, 5, False), split_words(3), range(-2, 2)),
    Case("lift to a smaller ring", partial(lifted, 3, 2, True), replicated(3)),
    Case("equality of two digits", partial(circuit, 2, SMALL_EQUAL), split_words(2)),
    Case("sign of one group", partial(compared, 3, is_negative), split_words(3)),
    Case("carry of two groups", partial(grouped, 3, (1, 1)), split_words(3)),
    Case("window", partial(compared, 2, partial(locate, width=1)), split_words(2)),
    Case(
        "window in one round",
        partial(compared, 3, partial(locate, width=2, way=compare.one_round(3))),
        split_words(3),
    ),
    Case("wide sign of one group", partial(compared, 2, wide_negative), split_words(2)),
    Case("gate with halves", partial(gated, 2, True), pair_words(1) + replicated(2)),
    Case("gate without halves", partial(gated, 3, False), pair_words(1) + split_words(3)),
    Case(
        "gate that lifts",
        partial(gate_lifted, 2, 3, True, False),
        pair_words(1) + replicated(2),
        range(-1, 1),
    ),
    Case("gate that lifts a split", partial(gate_lifted, 2, 3, False, False), pair_words(1) + split_words(2)),
    Case("bit as number", partial(bit_as_number, 3), pair_words(1)),
    Case("row of two", partial(rows, 1, 2), split_words(1, 2)),
    Case("largest of two, a public place", partial(best_of_group, 1, 2, False), replicated(1, 2)),
    Case("largest of two, a secret place", partial(best_of_group, 1, 2, True), replicated(1, 4)),
    Case("number that reaches one", partial(reached, 2, 1, (1,), 2, False), replicated(2)),
    Case("series", partial(series_of, 3, TINY, 1, 3), split_words(3)),
    Case("zero counts", partial(counted, 2), pair_words(2)),
    Case("near the largest of two", partial(near_the_largest, 2, Histogram(2, 2, 0), 2, 2), split_words(2)),
    Case("inside", partial(inside_of, 3, 1, 2), split_words(3)),
    Case("exponential", partial(window_exp, 3, 1, 2, 2), split_words(3)),
]

FULL_WIDTH = [
    Case("product to split", partial(product_split, 64), replicated(64, 2)),
    Case("product resolved", partial(square_resolved, 64, 18), replicated(64)),
    Case("product lowered", partial(square_lowered, 64, 18), replicated(64)),
    Case("replicated resolved", partial(replicated_resolved, 64), replicated(64)),
    Case("sum replicated", partial(summed, 64), replicated(64)),
    Case("noise, replicated", partial(with_noise, 64), replicated(64) + noises(64)),
    Case("noise, split", partial(noise_split, 64), replicated(64) + noises(64)),
    Case("pair replicated", partial(pair_replicated, 64), pair_words(64)),
    Case("pair passed on", partial(pair_passed, 44), pair_words(44)),
    Case("pairs replicated, their sum passed on", partial(pairs_and_their_sum, 46), pair_words(46, 2)),
    Case("pair widened", partial(pair_widened, 26, 60, widen), pair_words(26)),
    Case("row times a factor", partial(row_times, 64, 90, 62), replicated(64) + pair_words(64)),
    Case("pair lifted", partial(pair_widened, 20, 64, lift_pair), pair_words(20)),
    Case("dealt", partial(dealt, 64), [Input(64, frozenset({P}))]),
    Case("lift", partial(lifted, 46, 64, False), split_words(46)),
    Case("window", partial(compared, 12, partial(locate, width=16)), split_words(12)),
    Case(
        "window in one round",
        partial(compared, 8, partial(locate, width=16, way=compare.one_round(8))),
        split_words(8),
    ),
    Case("deep window", partial(compared, 12, partial(locate, width=16, deep=True)), split_words(12)),
    Case("sign", partial(compared, 16, is_negative), split_words(16)),
    Case("gate with halves", partial(gated, 28, True), pair_words(1) + replicated(28)),
    Case("gate without halves", partial(gated, 28, False), pair_words(1) + split_words(28)),
    Case("gate that lifts", partial(gate_lifted, 17, 25, True, False), pair_words(1) + replicated(17)),
    Case(
        "gate that lifts a split", partial(gate_lifted, 17, 25, False, False), pair_words(1) + split_words(17)
    ),
    Case(
        "gate that lifts, and a value beside it",
        partial(gate_lifted, 17, 25, True, True),
        pair_words(1) + replicated(17) + replicated(25),
    ),
    Case("wide sign of three blocks", partial(compared, 12, wide_negative), split_words(12)),
    Case("rows of three", partial(rows, 8, 3), split_words(8, 3)),
    Case("largest of three, a public place", partial(best_of_group, 8, 3, False), replicated(8, 3)),
    Case("numbers that reach three", partial(reached, 8, 2, (16, 32, 48), 9, False), replicated(8, 2)),
    Case("zero counts", partial(counted, 5), pair_words(5)),
    Case(
        "near the largest of three",
        partial(near_the_largest, 9, Histogram(9, 3, 1), 3, 12),
        split_words(9, 2),
    ),
    Case("inside, by one digit", partial(inside_of, 8, 4, 4), split_words(8)),
    Case("inside, by three digits", partial(inside_of, 14, 4, 4), split_words(14)),
    Case("exponential", partial(window_exp, 6, 3, 2, 61), split_words(6)),
    Case("exponential of four cases", partial(window_exp, 5, 2, 4, 61), split_words(5)),
    Case(
        "exponential in a wide ring",
        partial(wide_powers, 6, exp_softmax.Window(3, 2, 10), 90),
        split_words(6),
    ),
    Case("fine series", fine_series, split_words(26)),
    Case("long words passed on", partial(long_passed, 90), pair_words(64)),
    Case("series times a long word", partial(series_by, 1, 90), split_words(26) + split_words(64)),
    Case("series times two long words", partial(series_by, 2, 90), split_words(26) + split_words(64, 2)),
    Case("series plus a long word", partial(series_and, 90), split_words(26) + split_words(64)),
    Case("normalisation", partial(scaled, Thresholds(28, 30, 62, Power.INVERSE_ROOT, 90)), split_words(62)),
    Case(
        "normalisation by keys",
        with_hidden_keys(partial(scaled, Thresholds(1, 2, 6, Power.INVERSE, 10), keyed=True)),
        split_words(6),
    ),
    Case("small normalisation", partial(scaled, Thresholds(1, 3, 8, Power.ROOT, 12)), split_words(8)),
]

TWO_SCALED = Case(
    "two normalisations",
    partial(
        scaled_side_by_side,
        Thresholds(1, 2, 6, Power.INVERSE, 10),
        Thresholds(1, 2, 6, Power.INVERSE, 10, 10),
    ),
    split_words(6, 2),
)

COMPOSED = [
    Case("a number from zero on", partial(from_zero, 24, 40), replicated(24)),
    Case("wide sign", partial(compared, 64, wide_negative), split_words(64)),
    Case("wide equality", partial(compared, 64, wide_zero), split_words(64)),
    Case("row of four by fours", partial(rows, 8, 4, by=maximum.row_maximum_by_fours), split_words(8, 4)),
    Case("place of the largest of five", partial(best_of, 12, 5), replicated(12, 5)),
    Case("place of the largest of five, by twos and by fours", partial(mixed, 12, 5), replicated(12, 5)),
    Case(
        "weights of what reaches three",
        partial(reached, 8, 2, (16, 32, 48), 20, True),
        replicated(8, 2) + replicated(20, 2),
    ),
    Case("a draw from five", partial(drawn_from, 20, 5), replicated(20, 5)),
    Case("largest of four, and its place", partial(best_of_group, 12, 4, True), replicated(12, 8)),
    Case("wide exponential", of_one(exponential), replicated(64)),
    Case("activation", partial(activated, "gelu", False), replicated(64)),
    Case("activation of a product", partial(activated, "gelu", True), replicated(64)),
    Case("activation of a narrow range", partial(activated, "gelu", False, argument=8.0), replicated(64)),
    Case(
        "activation in three rounds",
        partial(activated, "gelu", True, argument=8.0, fast=True),
        replicated(64),
    ),
    Case(
        "activation with two constants in three rounds",
        partial(activated, "tanh", False, argument=8.0, fast=True),
        replicated(64),
    ),
    Case("activation with two constants", partial(activated, "tanh", False), replicated(64)),
    Case("held between two ends", of_one(clamp.between, -5 << 18, 3 << 18, 64), replicated(64)),
    Case("held, and what is above", of_one(clamp.between_and_above, -5 << 18, 3 << 18, 64), replicated(64)),
    TWO_SCALED,
    Case("reciprocal", of_one(reciprocal.reciprocal, RESTING.at(24), (8, 10)), replicated(64)),
    Case("reciprocal root", of_one(reciprocal.rsqrt, RESTING.at(24), (8, 10)), replicated(64)),
    Case("reciprocal root of two readings", root_of_two, replicated(64)),
    Case("reciprocal root of two readings, narrow", partial(root_of_two, way=Way.NARROW), replicated(64)),
    Case(
        "reciprocal root by keys",
        with_hidden_keys(of_one(reciprocal.rsqrt, RESTING.at(24), (8, 10), 1.0, Way.KEYED)),
        replicated(64),
    ),
    Case(
        "reciprocal root of two readings by keys",
        with_hidden_keys(partial(root_of_two, way=Way.KEYED)),
        replicated(64),
    ),
    Case(
        "reciprocal root in a narrow ring",
        of_one(reciprocal.rsqrt, RESTING.at(24), (8, 10), 1.0, Way.NARROW),
        replicated(64),
    ),
    Case("square root", of_one(square_root.square_root, RESTING.at(24), (8, 10)), replicated(64)),
    Case("square root of two readings", length_of_two, replicated(64)),
]


def named(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[c.name for c in cases])


@named(ENUMERATED)
def test_views_do_not_depend_on_what_a_party_does_not_hold(case: Case) -> None:
    recording = everything(case.program, case.inputs)
    assert any(recording.received(party) for party in range(3))
    assert leaks(recording, case.inputs) == []
    assert_fresh(recording, case.results)


@named(FULL_WIDTH + COMPOSED)
def test_every_word_received_is_hidden_by_a_fresh_one(case: Case) -> None:
    assert unmasked(case.program, case.inputs) == []


@named(FULL_WIDTH)
def test_every_mask_is_needed_and_needed_fresh(case: Case) -> None:
    """Without any one of its PRF words, or with one used twice, the protocol is caught."""
    trial = record(case.program, random_inputs(case.inputs, 1024, 0), 1024, random_source(1024, 0))
    for key, draws in trial.tape.draws.items():
        for draw in draws:
            found = unmasked(case.program, case.inputs, broken=without(key, draw.place))
            assert found, f"without F_{key}[{draw.place}]"
        for first, second in combinations(draws, 2):
            if (first.bits, first.words.shape) == (second.bits, second.words.shape):
                found = unmasked(case.program, case.inputs, broken=repeated(key, first.place, second.place))
                assert found, f"F_{key}[{first.place}] again as F_{key}[{second.place}]"


def test_every_mask_of_two_normalisations_is_needed() -> None:
    case = TWO_SCALED
    trial = record(case.program, random_inputs(case.inputs, 1024, 0), 1024, random_source(1024, 0))
    for key, draws in trial.tape.draws.items():
        for draw in draws:
            found = unmasked(case.program, case.inputs, broken=without(key, draw.place))
            assert found, f"without F_{key}[{draw.place}]"


def without(key: int, place: int) -> Callable[[Source], Source]:
    def broken(source: Source) -> Source:
        return lambda k, p, count, bits: source(k, p, count, bits) * np.uint64((k, p) != (key, place))

    return broken


def repeated(key: int, first: int, second: int) -> Callable[[Source], Source]:
    def broken(source: Source) -> Source:
        return lambda k, p, count, bits: source(k, first if (k, p) == (key, second) else p, count, bits)

    return broken


def assert_fresh(recording: Recording, results: range | None) -> None:
    """The result's shares are uniform, given the result."""
    form = recording.results[P]
    if isinstance(form, Replicated):
        held = [r.first for r in recording.results]
    elif isinstance(form, Split):
        by_role = {r.role: r.words for r in recording.results}
        assert np.array_equal(reduced(by_role[1], form.bits), reduced(by_role[2], form.bits))
        held = [by_role[0], by_role[1]]
    else:
        return  # the twins' halves are masked when they are sent
    opened = signed(sum(held[1:], held[0]), form.bits)
    lanes = np.isin(opened, opened if results is None else list(results))
    assert lanes.any()
    assert uniform([words[lanes] for words in held[:-1]], form.bits, opened[lanes])
