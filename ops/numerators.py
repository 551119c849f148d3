"""The numerators of a softmax, and the reciprocals of their sums, for rows of any length laid end to end.

A numerator is the exponential of the score less a number near the row's maximum (score_reading.py), at most
one: so the sums of rows have a known range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Shares, joined, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, split, split_cost
from onnxpuma.mpc.protocols.exp_softmax import FRACTION as EXP_FRACTION
from onnxpuma.mpc.protocols.exp_softmax import (
    POWER,
    exp_window,
    exp_window_cost,
    exp_window_long,
    exp_window_long_cost,
)
from onnxpuma.mpc.protocols.histogram import row_peak, row_peak_cost
from onnxpuma.mpc.protocols.maximum import (
    row_maximum,
    row_maximum_by_fours,
    row_maximum_by_fours_cost,
    row_maximum_cost,
)
from onnxpuma.mpc.protocols.pivots import FEW_ROWS, each_led, over_parts, runs, spread_all
from onnxpuma.mpc.protocols.reciprocal import digits_of, inverse_cost, reciprocal
from onnxpuma.mpc.protocols.times_power import Way, fastest
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.mpc.ring.arrays import integers
from onnxpuma.ops.score_reading import COARSE, FINE, Reading


def numerators(
    party: Party, x: Shares, lengths: np.ndarray, pivot: int, bits: int, how: Reading
) -> Protocol[tuple[Replicated, Replicated]]:
    """e^(x - m - above) of rows laid end to end, (n,), at `how.numerator` fraction bits mod 2^bits, and m of
    each row, (rows,), of a histogram less the row's first score.

    Each row's maximum lies less than `how.above` above m and less than `how.below` below it. A score that is
    further below m than the window reaches may count as zero. Error: below 2^-17, in a fine window 2^-20 of
    the result and 2^-24. Rounds: those of the maximum and 4, or 5 for a wide spread; one less if
    `how.wide`. Bits: `numerators_cost`.
    """
    fine, read = split(party, x, pivot, Format(how.bits, FINE)), how.shifted_bits
    row = np.repeat(np.arange(len(lengths)), lengths)
    if how.peak is None:
        largest = row_maximum_by_fours if how.fours else row_maximum
        tops = yield from largest(party, fine.lowered(FINE - COARSE, how.coarse_bits), lengths)
        top = see(party, tops[row], pivot).raised(FINE - COARSE, read)
    else:
        fine = fine - fine[(np.cumsum(lengths) - lengths)[row]]
        tops = yield from row_peak(party, fine, lengths, how.peak, read)
        top = see(party, tops[row], pivot)
    below = fine.modulo(read) - top
    below, shift = below.plus_numbers(how.offset), EXP_FRACTION - how.numerator
    if how.wide:
        long = yield from exp_window_long(party, below, how.window, bits + shift)
        found = replicate_pair(party, long.lowered(shift, Format(bits, how.numerator)))
        yield
        return found, tops
    y = yield from exp_window(party, below, how.window)
    return (yield from lift_pair(party, y.lowered(shift), bits, least=-1)), tops


def powers_cost(elements: int, ring: int, how: Reading) -> Cost:
    """From a score less m to its numerator mod 2^ring. The first message leaves with the one before."""
    shift = EXP_FRACTION - how.numerator
    if how.wide:
        exp = exp_window_long_cost(elements, how.digit_bits, how.window, ring + shift).merged()
        return exp + replicate_pair_cost(elements, ring)
    exp = exp_window_cost(elements, how.digit_bits, how.window).merged()
    return exp + lift_pair_cost(elements, POWER.bits - shift, ring)


def numerators_cost(elements: int, lengths: np.ndarray, form: type, ring: int, how: Reading) -> Cost:
    read = split_cost(elements, how.bits, form)
    if how.peak is None:
        largest = row_maximum_by_fours_cost if how.fours else row_maximum_cost
        highest = largest(elements, lengths, how.coarse_bits)
    else:
        highest = row_peak_cost(lengths, how.peak, how.shifted_bits)
    return Cost(0, read.bits) + highest + powers_cost(elements, ring, how)


def all_numerators(
    party: Party, flat: Shares, lengths: np.ndarray, bits: int, how: Reading
) -> Protocol[Replicated]:
    """The first result of `all_peaks`."""
    return (yield from all_peaks(party, flat, lengths, bits, how))[0]


def all_peaks(
    party: Party, flat: Shares, lengths: np.ndarray, bits: int, how: Reading
) -> Protocol[tuple[Replicated, Replicated]]:
    """`numerators` with the rows spread over the three pivots."""

    def each(piece: tuple[slice, slice], pivot: int) -> Protocol[tuple[Replicated, Replicated]]:
        rows, elements = piece
        return numerators(party, flat[elements], lengths[rows], pivot, bits, how)

    done = yield from each_led(party, runs(lengths), each)
    return joined([e for e, _ in done]), joined([m for _, m in done])


def all_numerators_cost(lengths: np.ndarray, form: type, ring: int, how: Reading) -> Cost:
    return _all_cost(integers(lengths).tobytes(), form, ring, how)


@lru_cache(maxsize=64)  # the layers of a model ask alike
def _all_cost(packed: bytes, form: type, ring: int, how: Reading) -> Cost:
    total, lengths = Cost(), integers(np.frombuffer(packed, np.int64))
    for rows, elements in runs(lengths):
        total |= numerators_cost(elements.stop - elements.start, lengths[rows], form, ring, how)
    return total


def fastest_reading(
    network: Network,
    tournament: Reading,
    others: Sequence[Reading],
    lengths: np.ndarray,
    form: type,
    ring: int,
) -> Reading:
    """A tournament, or the cheapest of the histograms, whichever takes the least time on this network; then
    the ring of its powers."""
    fours = replace(tournament, fours=True)
    ways = {
        "tournament": (tournament, all_numerators_cost(lengths, form, ring, tournament)),
        "tournament by fours": (fours, all_numerators_cost(lengths, form, ring, fours)),
    }
    if others:
        costs = [(how, all_numerators_cost(lengths, form, ring, how)) for how in others]
        ways["histogram"] = min(costs, key=lambda way: (way[1].rounds, way[1].bits))
    found = ways[network.fastest({name: cost for name, (_, cost) in ways.items()})][0]
    rings = {"powers, then a lift": found, "powers in a wide ring": replace(found, wide=True)}
    costs_of = {name: all_numerators_cost(lengths, form, ring, how) for name, how in rings.items()}
    return rings[network.fastest(costs_of)]


def row_reciprocals(
    party: Party, sums: Replicated, longest: int, how: Reading, ring: int, network: Network
) -> Protocol[Replicated]:
    """1 / sum of each row, (rows,), `sum_read` fraction bits mod 2^ring."""
    digits = digits_of(how.least_sum, float(longest), Format(ring, how.numerator))
    made = Format(ring, how.sum_read(ring))
    way = fastest(network, lambda w: _reciprocals_cost(sums.size, longest, ring, how, w))

    def each(parts: Sequence[Replicated], pivot: int) -> Protocol[list[Replicated]]:
        return [(yield from reciprocal(party, parts[0], pivot, made, digits, way=way))]

    (inverse,) = yield from spread_all(party, [sums], each, FEW_ROWS)
    return inverse


def row_reciprocals_cost(count: int, longest: int, ring: int, how: Reading, network: Network) -> Cost:
    way = fastest(network, lambda w: _reciprocals_cost(count, longest, ring, how, w))
    return _reciprocals_cost(count, longest, ring, how, way)


@lru_cache(maxsize=256)  # the layers of a model ask alike
def _reciprocals_cost(count: int, longest: int, ring: int, how: Reading, way: Way) -> Cost:
    digits = digits_of(how.least_sum, float(longest), Format(ring, how.numerator))
    made = Format(ring, how.sum_read(ring))

    def each(size: int) -> Cost:
        return inverse_cost("reciprocal", size, digits, how.numerator, made, form=Replicated, way=way)

    return over_parts(count, each, FEW_ROWS)
