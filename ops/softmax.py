"""Softmax of rows of any length: coarse maximum, exp on a window, row sum, one reciprocal a row.

The numerators are e^(t - 1) with t the score less the row's coarse maximum, so a row's sum lies between
e^-2 and its length; attention multiplies by the reciprocal after the product with V, where there are fewer
elements (protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Pair, Replicated, Sum3, see
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.protocols.compare import is_negative, is_negative_cost
from onnxpuma.mpc.protocols.convert import (
    pass_on,
    pass_on_cost,
    replicate_pair,
    replicate_pair_cost,
    split,
    split_cost,
)
from onnxpuma.mpc.protocols.exp_softmax import FRACTION as EXP_FRACTION
from onnxpuma.mpc.protocols.exp_softmax import exp_window, exp_window_cost, floor_constant
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.maximum import row_maximum, row_maximum_cost
from onnxpuma.mpc.protocols.reciprocal import digits_of, inverse_cost, reciprocal
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.lengths import spread_of_scores
from onnxpuma.ops.limits import Arrays, Limit, Measure, Needs
from onnxpuma.ops.registry import FRACTION, Call, Use, operator
from onnxpuma.ops.scores import (
    LEAST_SPREAD,
    LOWEST,
    SPREAD,
    Scores,
    brought_up,
    brought_up_cost,
    dense,
    entered,
    read_as_far,
    scores_of,
    spreads,
    within_reach,
)
from onnxpuma.ops.spread import SMALLEST_SPREAD, joined, shift_cost, sliced, truncated
from onnxpuma.standard.mask_values import MOST_REACH

FINE = 15  # fraction bits of the score that exp reads; 32 units <-> 2^20
EXP_BITS = 20
COARSE = 1  # fraction bits of the reading for the maximum: halves
NUMERATOR = 22  # fraction bits of the numerators


def coarse_bits(spread: float) -> int:
    """Bits of the reading for the maximum and the clipping of scores less than `spread` apart."""
    return max(8, math.ceil(math.log2(spread)) + COARSE + 1)


def _read_bits(spread: float) -> int:
    return coarse_bits(spread) + FINE - COARSE


def numerators(
    party: Party, x: Replicated | Sum3, lengths: np.ndarray, pivot: int, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """e^(x - m - 1) of rows laid end to end, (n,), m within 1/2 of the row's maximum; NUMERATOR bits.

    And m, (rows,), COARSE fraction bits mod 2^coarse_bits. Two scores of one row differ by less than
    `spread`. Error: below 2^-16. Rounds: 3 a level of the tournament and 9; bits: `numerators_cost`.
    """
    fine = split(party, x, pivot, Format(_read_bits(spread), FINE))
    coarse = fine.lowered(FINE - COARSE)
    tops = yield from row_maximum(party, coarse, lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    highest = tops.map(lambda w: w[row])
    top = see(party, highest, pivot)
    # one unit of the coarse reading may be lost on each side, hence two units of margin at the lower end
    margin = (LOWEST << COARSE) - 2
    below = yield from is_negative(party, coarse.minus(top).plus(from_integers(margin, coarse.bits)))
    shifted = fine.modulo(EXP_BITS).minus(top.raised(FINE - COARSE, EXP_BITS))
    shifted = shifted.plus(from_integers(LOWEST << FINE, EXP_BITS))
    pair = yield from gate(party, ~below, shifted)
    inside = replicate_pair(party, pair)
    y = yield from exp_window(party, see(party, inside, pivot))
    y = y.plus(-floor_constant())
    return (yield from _from_pair(party, y)), tops


def _from_pair(party: Party, y: Pair) -> Protocol[Replicated]:
    return (yield from lift(party, pass_on(party, y.lowered(EXP_FRACTION - NUMERATOR)), 64))


def numerators_cost(elements: int, lengths: np.ndarray, form: type, spread: float = SPREAD) -> Cost:
    read, coarse = split_cost(elements, _read_bits(spread), form), coarse_bits(spread)
    width = 64 - EXP_FRACTION + NUMERATOR
    highest = row_maximum_cost(elements, lengths, coarse)
    clip = is_negative_cost(elements, coarse).merged() + gate_cost(elements, EXP_BITS, halves=False)
    exp = replicate_pair_cost(elements, EXP_BITS) | exp_window_cost(elements)
    back = pass_on_cost(elements, width) | lift_cost(elements, width, 64)
    return Cost(0, read.bits) + highest + clip + exp + back


def row_parts(lengths: np.ndarray) -> list[tuple[slice, slice]]:
    """(rows, elements) of each part: whole rows, about equally many elements for each pivot."""
    ends = np.cumsum(lengths)
    size = int(ends[-1]) if len(ends) else 0
    if size < SMALLEST_SPREAD or len(lengths) < 3:
        return [(slice(0, len(lengths)), slice(0, size))]
    cuts = [0, *(int(np.searchsorted(ends, size * i / 3, side="left")) + 1 for i in (1, 2)), len(lengths)]
    cuts = [min(c, len(lengths)) for c in cuts]
    edges = [0, *(int(ends[c - 1]) for c in cuts[1:])]
    pieces = [(slice(cuts[i], cuts[i + 1]), slice(edges[i], edges[i + 1])) for i in range(3)]
    return [(rows, elements) for rows, elements in pieces if elements.stop > elements.start]


def all_numerators(
    party: Party, flat: Replicated | Sum3, lengths: np.ndarray, spread: float = SPREAD
) -> Protocol[Replicated]:
    """The first of `all_peaks`."""
    return (yield from all_peaks(party, flat, lengths, spread))[0]


def all_peaks(
    party: Party, flat: Replicated | Sum3, lengths: np.ndarray, spread: float = SPREAD
) -> Protocol[tuple[Replicated, Replicated]]:
    """`numerators` with the rows spread over the three pivots."""
    pieces = row_parts(lengths)
    if len(pieces) == 1:
        return (yield from numerators(party, flat, lengths, party.next_pivot(), spread))
    done = yield from parallel(
        numerators(party, sliced(flat, elements), lengths[rows], pivot, spread)
        for pivot, (rows, elements) in enumerate(pieces)
    )
    return joined([e for e, _ in done], flat.shape), joined([m for _, m in done], lengths.shape)


def all_numerators_cost(lengths: np.ndarray, form: type, spread: float = SPREAD) -> Cost:
    total = Cost()
    for rows, elements in row_parts(lengths):
        total |= numerators_cost(elements.stop - elements.start, lengths[rows], form, spread)
    return total


SUM_READ = 24  # fraction bits of the reciprocal of a row's sum


def row_reciprocals(party: Party, sums: Replicated, longest: int) -> Protocol[Replicated]:
    """1 / sum of each row, (rows,), SUM_READ fraction bits."""
    digits = digits_of(0.13, float(longest), RESTING.at(NUMERATOR))
    count = sums.size
    if count < 96:
        return (yield from reciprocal(party, sums, party.next_pivot(), sums.format.at(SUM_READ), digits))
    done = yield from parallel(
        reciprocal(party, sliced(sums, piece), pivot, sums.format.at(SUM_READ), digits)
        for pivot, piece in enumerate(thirds(count))
    )
    return joined(done, sums.shape)


def row_reciprocals_cost(count: int, longest: int) -> Cost:
    digits = digits_of(0.13, float(longest), RESTING.at(NUMERATOR))
    sizes = [count] if count < 96 else [s.stop - s.start for s in thirds(count)]
    total = Cost()
    for size in sizes:
        total |= inverse_cost("reciprocal", size, digits, NUMERATOR, RESTING.at(SUM_READ), form=Replicated)
    return total


def left_out(length: int) -> float:
    """What a row's sum may lack: scores count as zero from 14 to 15 below the largest on, where the coarse
    reading cuts, and what would be left of them is taken off all others as well."""
    return length * math.exp(1 - LOWEST)


def _rows(call: Call) -> tuple[int, int]:
    shape = call.outputs[0].shape
    length = shape[call.axis] if shape else 1
    size = call.outputs[0].size
    return (size // length if length else 0), length


def _scores(call: Call) -> Scores:
    x, shape = call.given(0), call.outputs[0].shape
    axis = call.axis
    beside = None if x.beside is None or not shape else np.moveaxis(x.beside, axis, -1)
    rows = (*(n for a, n in enumerate(shape) if a != axis), _rows(call)[1])
    found = scores_of(beside, rows, spread_of(call) + read_as_far(x))
    return replace(found, spread=min(found.spread, largest_spread(x.fraction)))


def _softmax_cost(call: Call) -> Cost:
    rows, length = _rows(call)
    scores = _scores(call)
    lengths = scores.lengths[scores.lengths > 0]
    if rows * length == 0 or not len(lengths):
        return Cost()
    (x,) = call.secrets
    first = brought_up_cost(call, x) + all_numerators_cost(lengths, _form(call), scores.spread)
    first = first + row_reciprocals_cost(len(lengths), length)
    shift = NUMERATOR + SUM_READ - 18
    return first + shift_cost(rows * length, shift, RESTING.bits)


def _form(call: Call) -> type:
    (x,) = call.secrets
    return Replicated if x.reach > MOST_REACH else x.form


def spread_of(call: Call) -> float:
    """How far two scores of a row may be apart: by default no further than a product holds them."""
    x = call.given(0)
    held = largest_spread(x.fraction) - read_as_far(x)
    held = held if x.beside is None else (held - LOWEST - 1) / 2
    return call.bound("spread", min(SPREAD, max(held, LEAST_SPREAD)))


def _spreads(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x = np.asarray(inputs[0], np.float64)
    if not x.ndim or not x.size:
        return np.zeros(0)
    x = np.maximum(np.moveaxis(x, call.axis, -1), -MOST_REACH if call.given(0).reach else -np.inf)
    return spreads(x, _scores(call).kept)


def largest_spread(fraction: int) -> float:
    """The largest spread for which scores of `fraction` fraction bits have as many bits as are read."""
    return 2.0 ** (64 - max(fraction - FINE, 0) - FINE - 1)


def farthest_apart(spread: float) -> float:
    """How far apart scores may be that are read for this spread: both readings are off by a unit or so."""
    return 2.0 ** (coarse_bits(spread) - COARSE - 1) - 2


def spread_limit(spread: float, measure: Measure, stays: Callable[[Call], float], needs: Needs) -> Limit:
    what, below = "the distance of two scores of a row", farthest_apart(spread)
    return Limit(what, measure, below, key="spread", stays=stays, needs=needs)


def _apart(call: Call) -> float:
    added = _scores(call).added  # public numbers
    return spread_of_scores(call) + (0.0 if added is None else float(-added.min(initial=0.0)))


def _needs(call: Call) -> Sequence[Need]:
    """Of the words alone: what is beside them is in the spread that is read, of which this is the rest."""
    x, axis = call.given(0), call.axis - len(call.outputs[0].shape)
    if x.reach:
        return within_reach(x, spread_of(call), farthest_apart(_scores(call).spread))
    return (Need(0, "spread", farthest_apart(spread_of(call)), (axis,)),)


def _defers(call: Use, index: int) -> bool:
    x = call.given(index)
    if x.reach > MOST_REACH:
        return False
    least = call.bound("spread", LEAST_SPREAD)
    added = 0.0 if x.beside is None else least + LOWEST + 1
    return least + read_as_far(x) + added <= largest_spread(x.fraction)


@operator(
    "Softmax",
    cost=_softmax_cost,
    defers=_defers,
    limits=lambda call: (spread_limit(_scores(call).spread, _spreads, _apart, _needs),),
    grows=lambda call: left_out(_rows(call)[1]),
    error="1e-4; in rows of n up to n 8e-7",
    beside=lambda call: [None],
    reaches=True,
)
def softmax(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """Softmax along an axis; a row of nothing but minus infinity, publicly so, gives zeros."""
    axis, scores = call.axis, _scores(call)
    lengths = scores.lengths[scores.lengths > 0]
    if x.size == 0 or not len(lengths):
        empty = np.zeros(call.outputs[0].shape, np.uint64)
        return [Replicated(party.index, empty, empty, Format(64, FRACTION))]
    up = yield from brought_up(party, call, x, call.given(0))
    moved: Any = up.map(lambda w: np.moveaxis(w, axis, -1) if w.ndim else w.reshape(1))  # type: ignore[attr-defined]
    shape, (rows, length) = moved.shape, _rows(call)
    e = yield from all_numerators(party, entered(moved, scores), lengths, scores.spread)
    places = scores.places
    table = e.map(lambda w: dense(w, places, (rows, length)))
    kept = scores.lengths > 0
    sums = table.map(lambda w: w.sum(axis=-1, dtype=w.dtype)[kept])
    inverse = yield from row_reciprocals(party, sums, length)
    factor = inverse.map(lambda w: dense(w, np.flatnonzero(kept), (rows, 1)))
    result = yield from truncated(party, multiply(party, table, factor))
    return [result.map(lambda w: np.moveaxis(w.reshape(shape), -1, axis))]
