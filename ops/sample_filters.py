"""Rows of scores of which some are ruled out before one is drawn: top-k, top-p and min-p.

All three keep the scores from some threshold on. Scores are read relative to the largest of their row, in a
window of 32 units below it: what lies further down has less than e^-32 of its probability, and counts as if
it lay at the window's end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost, Network
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated, see, zeros
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import (
    SHORT_BITS,
    signs,
    signs_cost,
    wide_negative,
    wide_negative_cost,
)
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle
from onnxpuma.mpc.protocols.cutoff import cutoff, cutoff_cost, even_steps
from onnxpuma.mpc.protocols.exp_softmax import FRACTION as EXP_FRACTION
from onnxpuma.mpc.protocols.exp_softmax import POWER, WIDE, exp_window, exp_window_cost
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.gumbel import LEAST, MOST, gumbel
from onnxpuma.mpc.protocols.pivots import over_parts, spread, spread_all
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.ops.row_tops import by_fours, tops, tops_cost
from onnxpuma.ops.sample_steering import Steering

FRACTION = 12  # fraction bits of a score
_UNITS = 5  # the logarithm of the window
_WIDTH = _UNITS + FRACTION  # bits of a score in it
WINDOW = ((1 << _WIDTH) - 1) * 2.0**-FRACTION  # the largest score in it
_LAST = 2  # a threshold of top-k or top-p is a multiple of 2^-10
_LIFTED = math.ceil(1 - LEAST)  # added to a score that passes, so that with its noise it is above zero
BITS = FRACTION + 1 + math.ceil(math.log2(2**_UNITS + MOST + _LIFTED))
"""Bits of the scores with noise, and of the result."""
_WEIGHT = 18  # fraction bits of a probability
_SHARE = 20  # fraction bits of top-p
_MOST_STEP = 5  # the most bits of a threshold that are found at a time


def _floors(steering: Steering) -> np.ndarray:
    """The thresholds of min-p in the window, (settings, 1)."""
    return (((1 << _WIDTH) - 1 + np.rint(steering.floors * 2.0**FRACTION)) * 2.0**-FRACTION).clip(0.0)


def weight_bits(length: int) -> int:
    """Bits of a sum of probabilities."""
    return _WEIGHT + length.bit_length() + 2


def _count_bits(length: int) -> int:
    return length.bit_length() + 2


# ---- the window, and the probabilities in it ----------------------------------------------------------


def windowed(party: Party, apart: Replicated) -> Protocol[Replicated]:
    """max(x, 0), mod 2^BITS, of x up to WINDOW in BITS or more."""

    def each(part: Replicated, pivot: int) -> Protocol[Replicated]:
        seen = see(party, part, pivot)
        below = yield from wide_negative(party, seen)
        pair = yield from gate(party, ~below, seen.modulo(BITS))
        return (yield from settle(party, replicate_pair(party, pair)))

    return (yield from spread(party, apart, each))


def windowed_cost(elements: int, bits: int) -> Cost:
    def each(n: int) -> Cost:
        return wide_negative_cost(n, bits) + gate_cost(n, BITS) + replicate_pair_cost(n, BITS)

    return over_parts(elements, each)


_READ = FRACTION + WIDE.unit + WIDE.digit_bits(2.0**_UNITS)  # bits of an argument of exp


def weights_of(party: Party, y: Replicated, bits: int) -> Protocol[Replicated]:
    """e^(y - 32), _WEIGHT fraction bits mod 2^bits. Condition: y is at most WINDOW."""

    def each(part: Replicated, pivot: int) -> Protocol[Replicated]:
        seen = see(party, part.modulo(_READ), pivot).plus_numbers(WIDE.top - 2.0**_UNITS)
        power = yield from exp_window(party, seen, WIDE)
        return (yield from lift_pair(party, power.lowered(EXP_FRACTION - _WEIGHT), bits, least=-1))

    return (yield from spread(party, y, each))


def weights_of_cost(elements: int, bits: int) -> Cost:
    def each(n: int) -> Cost:
        found = exp_window_cost(n, WIDE.digit_bits(2.0**_UNITS), WIDE)
        return found + lift_pair_cost(n, POWER.bits - EXP_FRACTION + _WEIGHT, bits)

    return over_parts(elements, each)


def passed(party: Party, apart: Replicated, x: Replicated) -> Protocol[Replicated]:
    """x where `apart` is zero or more, else zero; in x's format."""

    def each(parts: Sequence[Replicated], pivot: int) -> Protocol[list[Replicated]]:
        distance, value = (see(party, part, pivot) for part in parts)
        (below,) = yield from signs(party, distance, (0,), deep=distance.bits > SHORT_BITS)
        pair = yield from gate(party, ~below, value)
        return [(yield from settle(party, replicate_pair(party, pair)))]

    (found,) = yield from spread_all(party, [apart, x], each)
    return found


def passed_cost(elements: int, read: int, bits: int) -> Cost:
    def each(n: int) -> Cost:
        found = signs_cost(n, read, deep=read > SHORT_BITS)
        return found + gate_cost(n, bits) + replicate_pair_cost(n, bits)

    return over_parts(elements, each)


def _less(y: Replicated, threshold: Replicated) -> Replicated:
    """The distances of rows (rows, n) from their threshold (rows,), in as few bits as hold them."""
    both = y.modulo(_WIDTH + 1), threshold.modulo(_WIDTH + 1)
    return both[0] - both[1].reshape(-1, 1).broadcast_to(y.shape)


# ---- all together -------------------------------------------------------------------------------------


def _fastest_steps(rows: int, length: int, weighed: bool, network: Network) -> tuple[int, ...]:
    bits = weight_bits(length) if weighed else _count_bits(length)
    ways = {
        f"{most} bits at a time": cutoff_cost(
            rows, length, _WIDTH + 1, weighed, even_steps(_WIDTH - _LAST, most), bits
        )
        for most in range(1, _MOST_STEP + 1)
    }
    return even_steps(_WIDTH - _LAST, int(network.fastest(ways)[0]))


def filtered(
    party: Party, x: Replicated, out: np.ndarray | None, steering: Steering, network: Network
) -> Protocol[Replicated]:
    """Rows (rows, n) of scores at FRACTION fraction bits mod 2^k, to numbers mod 2^BITS whose largest is a
    draw from the softmax of the scores that pass the filters.

    out: the places of scores that are ruled out for public reasons. Conditions: two scores of a row differ by
    less than 2^(k-1) units; BITS <= k <= 41. Scores within 2^-10 of the last one that passes top-k or top-p
    may pass with it. Rounds and bits: `filtered_cost`.
    """
    rows, length = x.shape
    # 1. the window below the largest of each row
    top = yield from tops(
        party, x if out is None else _copied(x, out), by_fours(rows, length, x.bits, network)
    )
    apart = x - top.reshape(-1, 1).broadcast_to(x.shape)
    if steering.min_p_alone:  # whatever reaches the threshold lies in the window
        reach = apart.plus_numbers(WINDOW - _floors(steering))
        return (yield from passed(party, reach, _noisy(party, apart.plus_numbers(WINDOW).modulo(BITS))))
    y = yield from windowed(party, apart.plus_numbers(WINDOW))
    y = y if out is None else y.zeroed(out)
    # 2. the threshold of each filter
    threshold = zeros(party.index, (rows,), y.format.modulo(_WIDTH + 1))
    if steering.top_k:
        steps, bits = _fastest_steps(rows, length, False, network), _count_bits(length)
        read = y.modulo(_WIDTH + 1)
        threshold = yield from cutoff(party, read, None, steering.counts, steps, _LAST, bits)
    if steering.top_p:
        threshold = yield from _nucleus(party, y, out, threshold, steering, network)
    if steering.min_p:
        threshold = yield from _raised(party, threshold, steering)
    # 3. noise on what reaches it, and zero for the rest
    return (yield from passed(party, _less(y, threshold), _noisy(party, y)))


def _noisy(party: Party, y: Replicated) -> Replicated:
    return (y + gumbel(party, y.shape, 1.0, y.format)).plus_numbers(float(_LIFTED))


def _copied(x: Replicated, out: np.ndarray) -> Replicated:
    """The rows with a copy of one that is not ruled out in the place of each that is."""
    first = (~out).argmax(axis=-1)[:, None]
    return x.take_along(np.where(out, first, np.arange(out.shape[1])), 1)


def _nucleus(
    party: Party,
    y: Replicated,
    out: np.ndarray | None,
    threshold: Replicated,
    steering: Steering,
    network: Network,
) -> Protocol[Replicated]:
    """The threshold of top-p among the scores from `threshold` on."""
    rows, length = y.shape
    bits = weight_bits(length)
    weights = yield from weights_of(party, y, bits)
    weights = weights if out is None else weights.zeroed(out)
    if steering.top_k:
        weights = yield from passed(party, _less(y, threshold), weights)
    share = yield from share_of(party, weights.sum(-1), steering.shares[:, 0])
    steps = _fastest_steps(rows, length, True, network)
    target = share.modulo(bits)
    return (yield from cutoff(party, y.modulo(_WIDTH + 1), weights, target, steps, _LAST, bits))


def share_of(party: Party, total: Replicated, shares: np.ndarray) -> Protocol[Replicated]:
    """Public shares, one for all or one each, of sums of probabilities, in more bits than they have."""
    whole = yield from lift(party, see(party, total, party.next_pivot()), RESTING.bits)
    return whole.times_integers(np.rint(shares * 2.0**_SHARE).astype(np.int64), _SHARE).lowered(_SHARE)


def share_of_cost(rows: int, bits: int) -> Cost:
    return lift_cost(rows, bits, RESTING.bits)


def _raised(party: Party, threshold: Replicated, steering: Steering) -> Protocol[Replicated]:
    """The larger of a threshold and that of min-p."""
    floor = _floors(steering)[:, 0]
    more = threshold.plus_numbers(-floor)
    return (yield from _passed_alone(party, more)).plus_numbers(floor)


def _passed_alone(party: Party, x: Replicated) -> Protocol[Replicated]:
    return (yield from passed(party, x, x))


def filtered_cost(rows: int, length: int, bits: int, steering: Steering, network: Network) -> Cost:
    n, read = rows * length, _WIDTH + 1
    total = tops_cost(rows, length, bits, by_fours(rows, length, bits, network))
    if steering.min_p_alone:
        return total + passed_cost(n, bits, BITS)
    total = total + windowed_cost(n, bits)
    if steering.top_k:
        steps = _fastest_steps(rows, length, False, network)
        total = total + cutoff_cost(rows, length, read, False, steps, _count_bits(length))
    if steering.top_p:
        held = weight_bits(length)
        total = total + weights_of_cost(n, held)
        total = total + (passed_cost(n, read, held) if steering.top_k else FREE) + share_of_cost(rows, held)
        steps = _fastest_steps(rows, length, True, network)
        total = total + cutoff_cost(rows, length, read, True, steps, held)
    if steering.min_p:
        total = total + passed_cost(rows, read, read)
    return total + passed_cost(n, read, BITS)
