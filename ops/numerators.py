"""The numerators of a softmax, and the reciprocals of their sums, for rows of any length laid end to end.

A numerator is the exponential of the score less a number near the row's maximum (score_reading.py), at most
one: so the sums of rows have a known range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Shares, Split, joined, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import (
    pass_on,
    pass_on_cost,
    replicate_pair,
    replicate_pair_cost,
    split,
    split_cost,
)
from onnxpuma.mpc.protocols.exp_softmax import FRACTION as EXP_FRACTION
from onnxpuma.mpc.protocols.exp_softmax import (
    POWER,
    exp_window,
    exp_window_cost,
    exp_window_long,
    exp_window_long_cost,
)
from onnxpuma.mpc.protocols.histogram import row_peak, row_peak_cost
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.maximum import (
    row_maximum,
    row_maximum_by_fours,
    row_maximum_by_fours_cost,
    row_maximum_cost,
)
from onnxpuma.mpc.protocols.pivots import each_led, runs
from onnxpuma.mpc.protocols.reciprocal import (
    digits_of,
    inverse_cost,
    reciprocal,
    reciprocal_at_twins,
    reciprocal_at_twins_cost,
    ring_of,
)
from onnxpuma.mpc.protocols.times_power import Way, fastest
from onnxpuma.mpc.protocols.widen import widen, widen_cost
from onnxpuma.mpc.ring.arrays import integers
from onnxpuma.ops.score_reading import COARSE, FINE, Reading

T = TypeVar("T")


@dataclass(frozen=True)
class Powers:
    """The numerators of some rows, still at the twins of a pivot (`powers`)."""

    # (n,), at `Reading.numerator` fraction bits, in the ring of the numerators.
    shares: Pair
    # m of each row, (rows,), of a histogram less the row's first score.
    tops: Replicated
    # Where each row begins.
    starts: np.ndarray


def powers(
    party: Party, x: Shares, lengths: np.ndarray, pivot: int, bits: int, how: Reading
) -> Protocol[Powers]:
    """e^(x - m - above) of rows laid end to end, (n,), mod 2^bits.

    Each row's maximum lies less than `how.above` above m and less than `how.below` below it. A score that is
    further below m than the window reaches may count as zero. Error: below 2^-17, in a fine window 2^-20 of
    the result and 2^-24. Rounds: those of the maximum and 3, or 4 for a wide spread; one less if
    `how.wide`. Bits: `_cost_of_powers`.
    """
    fine, read = split(party, x, pivot, Format(how.bits, FINE)), how.shifted_bits
    starts, row = np.cumsum(lengths) - lengths, np.repeat(np.arange(len(lengths)), lengths)
    if how.peak is None:
        largest = row_maximum_by_fours if how.fours else row_maximum
        tops = yield from largest(party, fine.lowered(FINE - COARSE, how.coarse_bits), lengths)
        top = see(party, tops[row], pivot).raised(FINE - COARSE, read)
    else:
        fine = fine - fine[starts[row]]
        tops = yield from row_peak(party, fine, lengths, how.peak, read)
        top = see(party, tops[row], pivot)
    below = fine.modulo(read) - top
    below, shift = below.plus_numbers(how.offset), EXP_FRACTION - how.numerator
    if how.wide:
        long = yield from exp_window_long(party, below, how.window, bits + shift)
        return Powers(long.lowered(shift, Format(bits, how.numerator)), tops, starts)
    y = yield from exp_window(party, below, how.window)
    return Powers((yield from widen(party, y.lowered(shift), bits, least=-1)), tops, starts)


def powers_cost(elements: int, ring: int, how: Reading) -> Cost:
    """From a score less m to its numerator mod 2^ring, Replicated. The first message leaves with the one
    before."""
    return _shared_cost(elements, ring, how.priced) + replicate_pair_cost(elements, ring)


@lru_cache(maxsize=256)  # the layers of a model ask alike
def _shared_cost(elements: int, ring: int, how: Reading) -> Cost:
    """Of `powers_cost`, the part until the twins have the numerators."""
    shift = EXP_FRACTION - how.numerator
    if how.wide:
        return exp_window_long_cost(elements, how.digit_bits, how.window, ring + shift).merged()
    exp = exp_window_cost(elements, how.digit_bits, how.window).merged()
    return exp + widen_cost(elements, POWER.bits - shift, ring)


def _cost_of_powers(elements: int, lengths: np.ndarray, form: type, ring: int, how: Reading) -> Cost:
    read = split_cost(elements, how.bits, form)
    if how.peak is None:
        largest = row_maximum_by_fours_cost if how.fours else row_maximum_cost
        highest = largest(elements, lengths, how.coarse_bits)
    else:
        highest = row_peak_cost(lengths, how.peak, how.shifted_bits)
    return Cost(0, read.bits) + highest + _shared_cost(elements, ring, how)


def all_powers(
    party: Party, flat: Shares, lengths: np.ndarray, bits: int, how: Reading
) -> Protocol[list[Powers]]:
    """`powers` with the rows spread over the three pivots."""

    def each(piece: tuple[slice, slice], pivot: int) -> Protocol[Powers]:
        rows, elements = piece
        return powers(party, flat[elements], lengths[rows], pivot, bits, how)

    return (yield from each_led(party, runs(lengths), each))


def numerators(party: Party, parts: Sequence[Powers]) -> Protocol[Replicated]:
    """The numerators of all rows, (n,). Rounds: 1; bits: `numerators_cost`."""
    found = [replicate_pair(party, part.shares) for part in parts]
    yield
    return joined(found)


def all_powers_cost(lengths: np.ndarray, form: type, ring: int, how: Reading) -> Cost:
    return _all_cost(integers(lengths).tobytes(), form, ring, how.priced)


@lru_cache(maxsize=64)  # the layers of a model ask alike
def _all_cost(packed: bytes, form: type, ring: int, how: Reading) -> Cost:
    total, lengths = Cost(), integers(np.frombuffer(packed, np.int64))
    for rows, elements in runs(lengths):
        total |= _cost_of_powers(elements.stop - elements.start, lengths[rows], form, ring, how)
    return total


def numerators_cost(lengths: np.ndarray, ring: int) -> Cost:
    total = Cost()
    for _, elements in runs(lengths):
        total |= replicate_pair_cost(elements.stop - elements.start, ring)
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
        "tournament": (tournament, all_powers_cost(lengths, form, ring, tournament)),
        "tournament by fours": (fours, all_powers_cost(lengths, form, ring, fours)),
    }
    if others:
        costs = [(how, all_powers_cost(lengths, form, ring, how)) for how in others]
        ways["histogram"] = min(costs, key=lambda way: (way[1].rounds, way[1].bits))
    found = ways[network.fastest({name: cost for name, (_, cost) in ways.items()})][0]
    rings = {"powers, then a lift": found, "powers in a wide ring": replace(found, wide=True)}
    costs_of = {name: all_powers_cost(lengths, form, ring, how) for name, how in rings.items()}
    return rings[network.fastest(costs_of)]


def row_reciprocals(
    party: Party, parts: Sequence[Powers], longest: int, how: Reading, ring: int, network: Network
) -> Protocol[Replicated]:
    """1 / sum of each row of numerators, (rows,), `sum_read` fraction bits mod 2^ring.

    The twins add up their shares, so the sums leave for the next pivot while the numerators become
    Replicated. Rounds and bits: `row_reciprocals_cost`; the first round is that of `numerators`.
    """

    def inverse(sums: Split, digits: tuple[int, int], made: Format, way: Way) -> Protocol[Replicated]:
        return reciprocal(party, sums, sums.pivot, made, digits, way=way)

    return joined((yield from _of_sums(party, parts, longest, how, ring, network, inverse)))


def reciprocals_at_twins(
    party: Party, parts: Sequence[Powers], longest: int, how: Reading, ring: int, network: Network, wider: int
) -> Protocol[list[LongPair]]:
    """`row_reciprocals` of each part, mod 2^(ring + wider). Rounds: one less."""

    def inverse(sums: Split, digits: tuple[int, int], made: Format, way: Way) -> Protocol[LongPair]:
        return reciprocal_at_twins(party, sums, made, digits, way, wider)

    return (yield from _of_sums(party, parts, longest, how, ring, network, inverse, wider))


def _of_sums(
    party: Party,
    parts: Sequence[Powers],
    longest: int,
    how: Reading,
    ring: int,
    network: Network,
    inverse: Callable[[Split, tuple[int, int], Format, Way], Protocol[T]],
    wider: int = 0,
) -> Protocol[list[T]]:
    """inverse(sums, their digits, its format, the way to it) of the rows of each part, side by side."""
    digits, made = _sums_read(longest, how, ring)
    way = _way(tuple(len(part.starts) for part in parts), longest, ring, how, network, wider)
    read = ring_of(digits)

    def one(part: Powers) -> Protocol[T]:
        return inverse(pass_on(party, part.shares.modulo(read).run_sums(part.starts)), digits, made, way)

    return list((yield from parallel(one(part) for part in parts)))


def _way(
    counts: tuple[int, ...], longest: int, ring: int, how: Reading, network: Network, wider: int = 0
) -> Way:
    """The way to reciprocals that takes the least time on this network."""
    return fastest(network, lambda way: _reciprocals_cost(counts, longest, ring, how, way, wider))


def _sums_read(longest: int, how: Reading, ring: int) -> tuple[tuple[int, int], Format]:
    """The digits of a row's sum, and the format of its reciprocal."""
    digits = digits_of(how.least_sum, float(longest), Format(ring, how.numerator))
    return digits, Format(ring, how.sum_read(ring))


def row_reciprocals_cost(
    lengths: np.ndarray, longest: int, ring: int, how: Reading, network: Network, wider: int = 0
) -> Cost:
    """wider: of `reciprocals_at_twins`. Raises ProtocolError where no ring is that wide."""
    counts, how = tuple(rows.stop - rows.start for rows, _ in runs(lengths)), how.priced
    way = _way(counts, longest, ring, how, network, wider)
    return _reciprocals_cost(counts, longest, ring, how, way, wider)


@lru_cache(maxsize=256)  # the layers of a model ask alike
def _reciprocals_cost(
    counts: tuple[int, ...], longest: int, ring: int, how: Reading, way: Way, wider: int = 0
) -> Cost:
    digits, made = _sums_read(longest, how, ring)
    total = Cost()
    for count in counts:
        if wider:
            found = reciprocal_at_twins_cost(count, digits, how.numerator, made, way, wider)
        else:
            found = inverse_cost("reciprocal", count, digits, how.numerator, made, form=Replicated, way=way)
        total |= found | pass_on_cost(count, ring_of(digits))
    return total
