"""Softmax of rows of any length: coarse maximum, exp on a window, row sum, one reciprocal a row.

Attention takes the reciprocal after the product with V, on fewer elements (protocols.md, section 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, zeros
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.lengths import spread_of_scores
from onnxpuma.ops.limits import Arrays, Limit, Measure, Needs
from onnxpuma.ops.numerators import (
    all_powers,
    all_powers_cost,
    fastest_reading,
    numerators,
    numerators_cost,
    row_reciprocals,
    row_reciprocals_cost,
)
from onnxpuma.ops.registry import Call, Use, operator
from onnxpuma.ops.score_reading import FINE, LEAST_READ, Reading, farthest_apart, histograms
from onnxpuma.ops.scores import (
    LEAST_SPREAD,
    LOWEST,
    SPREAD,
    Scores,
    brought_up,
    brought_up_cost,
    entered,
    read_as_far,
    scores_of,
    spreads,
    within_reach,
)
from onnxpuma.ops.spread import shift_cost, truncated
from onnxpuma.standard.mask_values import MOST_REACH


def left_out(length: int) -> float:
    """The error of a row's sum: scores more than 14 below the largest may count as zero."""
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
    return replace(found, spread=min(found.spread, largest_spread(x.format)))


def _softmax_cost(call: Call) -> Cost:
    rows, length = _rows(call)
    scores = _scores(call)
    lengths = scores.lengths[scores.lengths > 0]
    if rows * length == 0 or not len(lengths):
        return Cost()
    (x,), how = call.secrets, _reading(call)
    first = brought_up_cost(call, x) + all_powers_cost(lengths, _form(call), call.ring, how)
    inverse = row_reciprocals_cost(lengths, length, call.ring, how, call.network)
    first = first + (numerators_cost(lengths, call.ring) | inverse)
    shift = how.numerator + how.sum_read(call.ring) - call.reals.fraction
    return first + shift_cost(rows * length, shift, call.ring)


@lru_cache(maxsize=4)
def _reading(call: Call) -> Reading:
    """The fastest way to read the scores."""
    (x,), scores = call.secrets, _scores(call)
    held = call.reals if x.reach > MOST_REACH else x.format
    others = histograms(scores.spread, held, call.ring, fine=True)
    lengths = scores.lengths[scores.lengths > 0]
    return fastest_reading(call.network, Reading(scores.spread), others, lengths, _form(call), call.ring)


def _form(call: Call) -> type:
    (x,) = call.secrets
    return Replicated if x.reach > MOST_REACH else x.form


def spread_of(call: Call) -> float:
    """The spread of a row that the kernel can read; by default no more than a product can hold."""
    x = call.given(0)
    held = largest_spread(x.format) - read_as_far(x)
    held = held if x.beside is None else (held - LOWEST - 1) / 2
    return call.bound("spread", min(SPREAD, max(held, LEAST_SPREAD)))


def _spreads(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x = np.asarray(inputs[0], np.float64)
    if not x.ndim or not x.size:
        return np.zeros(0)
    x = np.maximum(np.moveaxis(x, call.axis, -1), -MOST_REACH if call.given(0).reach else -np.inf)
    return spreads(x, _scores(call).kept)


def largest_spread(format: Format) -> float:
    """The largest spread for which scores in this format have all the bits that are read."""
    return 2.0 ** (format.bits - max(format.fraction - FINE, 0) - FINE - 1)


def spread_limit(spread: float, measure: Measure, stays: Callable[[Call], float], needs: Needs) -> Limit:
    what, below = "the distance of two scores of a row", farthest_apart(spread)
    return Limit(what, measure, below, key="spread", stays=stays, needs=needs)


def _apart(call: Call) -> float:
    added = _scores(call).added  # public numbers
    return spread_of_scores(call) + (0.0 if added is None else float(-added.min(initial=0.0)))


def _needs(call: Call) -> Sequence[Need]:
    """The conditions on the words alone: the distance that is read, less that of the numbers beside them."""
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
    return least + read_as_far(x) + added <= largest_spread(x.format)


def _too_narrow(call: Call) -> str | None:
    if call.ring < RESTING.bits and call.given(0).reach:
        return f"a secret mask reaches further than words of {call.ring} bits"
    digits = Reading(SPREAD).sum_read(call.ring)
    if digits < LEAST_READ:
        return (
            f"words of {call.ring} bits leave {digits} fraction bits to a row's sum, which needs {LEAST_READ}"
        )
    return None


@operator(
    "Softmax",
    cost=_softmax_cost,
    defers=_defers,
    limits=lambda call: (spread_limit(_scores(call).spread, _spreads, _apart, _needs),),
    grows=lambda call: left_out(_rows(call)[1]),
    error="1e-4; in rows of n up to n 8e-7",
    beside=lambda call: [None],
    reaches=True,
    refuse=_too_narrow,
    narrow=True,
)
def softmax(party: Party, call: Call, x: Shares) -> Protocol[Sequence[Form]]:
    """Softmax along an axis; a row that a public mask excludes entirely gives zeros."""
    axis, scores = call.axis, _scores(call)
    lengths = scores.lengths[scores.lengths > 0]
    if x.size == 0 or not len(lengths):
        return [zeros(party.index, call.outputs[0].shape, call.reals)]
    up = yield from brought_up(party, call, x, call.given(0))
    moved = up.moveaxis(axis, -1) if up.shape else up.reshape(1)
    shape, (rows, length) = moved.shape, _rows(call)
    how = _reading(call)
    parts = yield from all_powers(party, entered(moved, scores), lengths, call.ring, how)
    inverses = row_reciprocals(party, parts, length, how, call.ring, call.network)
    e, inverse = yield from parallel([numerators(party, parts), inverses])
    table = e.spaced(scores.places, (rows, length))
    factor = inverse.spaced(np.flatnonzero(scores.lengths > 0), (rows, 1))
    result = yield from truncated(party, multiply(party, table, factor))
    return [result.reshape(shape).moveaxis(-1, axis)]
