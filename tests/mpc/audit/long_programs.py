"""The protocols that an audit runs in rings of more than 64 bits, and those that hold such words inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np

from onnxpuma.mpc.audit.views import Program
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3, stacked
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols import (
    argmax,
    by_twos,
    gumbel,
    linear,
    power_of_four,
    smooth,
    square_root,
    wide_root,
)
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.exact_series import series_long, series_plus, series_times
from onnxpuma.mpc.protocols.fourier import all_series
from onnxpuma.mpc.protocols.long_words import Coming, LongPair, LongSplit, pass_on_long
from onnxpuma.mpc.protocols.prefixes import Prefixes
from onnxpuma.mpc.protocols.row_factor import times_factors
from onnxpuma.mpc.protocols.thresholds import Thresholds
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words
from tests.mpc.audit.programs import TINY
from tests.mpc.audit.shared_inputs import P, as_replicated, as_split, done


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


def drawn_from(k: int, length: int, party: Party, *w: Words) -> Protocol[Any]:
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(length)]
    scores = stacked(shared, axis=1)
    noisy = scores + gumbel.gumbel(party, scores.shape, 1.0, scores.format)
    values, places = yield from by_twos.tournament(party, noisy, P)
    return [(yield from settle(party, values)), *places]


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
