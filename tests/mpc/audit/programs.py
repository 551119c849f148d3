"""The protocols that an audit runs, at any ring width k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Sum3, see, stacked
from onnxpuma.mpc.party import PIVOT, Party, Protocol, taken
from onnxpuma.mpc.protocols import (
    boolean,
    carry,
    compare,
    convert,
    cutoff,
    exp_softmax,
    fours,
    gate,
    histogram,
    lifting_gate,
    linear,
    maximum,
    term_product,
)
from onnxpuma.mpc.protocols.boolean import Circuit
from onnxpuma.mpc.protocols.convert import deal, settle
from onnxpuma.mpc.protocols.fourier import Series, evaluate_series
from onnxpuma.mpc.protocols.histogram import Histogram
from onnxpuma.mpc.protocols.inside import inside
from onnxpuma.mpc.protocols.noisy import noisy
from onnxpuma.mpc.protocols.truncate import lift, resolve
from onnxpuma.mpc.protocols.unsigned import unsigned
from onnxpuma.mpc.protocols.wide import combined
from onnxpuma.mpc.ring.words import Words, from_integers, word_type
from tests.mpc.audit.shared_inputs import P, as_bit, as_pair, as_replicated, as_split, done


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


def terms_multiplied(
    k: int, bits: int, terms: Sequence[int], parts: Sequence[int], party: Party, *w: Words
) -> Protocol[Any]:
    """A number of which these parties have a term, times one of these components; all others are zero."""
    none = np.zeros_like(w[0])
    z, y = dict(zip(terms, w, strict=False)), dict(zip(parts, w[len(terms) :], strict=True))
    x = Sum3(party.index, z.get(party.index, none), Format(k, 0))
    other = as_replicated(party, [y.get(place, none).astype(word_type(bits)) for place in range(3)], bits)
    return (yield from term_product.multiply_terms(party, x, other, P))


def from_zero(k: int, bits: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from unsigned(party, as_replicated(party, w, k), bits, P))


def bit_as_number(k: int, party: Party, *w: Words) -> Protocol[Any]:
    return (yield from gate.arithmetic(party, as_bit(party, w), k))


def rows(k: int, length: int, party: Party, *w: Words, by: Any = maximum.row_maximum) -> Protocol[Any]:
    every = [np.stack(w[i::2], axis=1).reshape(-1) for i in range(2)]
    x = as_split(party, every, k)
    return (yield from settle(party, (yield from by(party, x, np.full(len(w[0]), length)))))


def best_of_group(k: int, size: int, secret: bool, party: Party, *w: Words) -> Protocol[Any]:
    shared = [as_replicated(party, w[3 * i : 3 * i + 3], k) for i in range(2 * size if secret else size)]
    values = stacked(shared[:size], axis=1)
    places = stacked(shared[size:], axis=1) if secret else from_integers(np.arange(size), k)
    found = yield from fours.largest_of_four(party, values, places, P, k)
    return (yield from done(found))


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


TINY = Series("tiny", 4, (0.5, 1.0, 0.75))
