"""The logarithm of a sum of exponentials, and of a softmax, for scores of any size.

log sum e^x = x_0 + m + 1 + log sum e^(x - x_0 - m - 1), where x_0 is the row's first score and m the coarse
maximum of the scores less x_0. The exponentials are the numerators of a softmax, so none is too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated, joined, zeros
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.logarithm import FRACTION as LOG_FRACTION
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.ops.beside import Beside, kept
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.exponential import log_cost, log_of
from onnxpuma.ops.lengths import spread_of_scores
from onnxpuma.ops.limits import Arrays, Limit
from onnxpuma.ops.numerators import all_powers, all_powers_cost, numerators, numerators_cost
from onnxpuma.ops.reduce import axes_of, not_empty
from onnxpuma.ops.registry import Call, Result, Value, operator
from onnxpuma.ops.running import running
from onnxpuma.ops.score_reading import COARSE, Reading, farthest_apart
from onnxpuma.ops.scores import (
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
from onnxpuma.ops.softmax import left_out, spread_limit
from onnxpuma.ops.spread import shift_cost, truncated

ERROR = "1e-4; of n scores up to n 8e-7"


def _axes(call: Call) -> tuple[int, ...]:
    """The axes of the sum."""
    if call.node.op == "LogSoftmax":
        return (call.axis,)
    return axes_of(call)


def _order(call: Call) -> tuple[int, ...]:
    reduced = _axes(call)
    return (*(a for a in range(len(call.given(0).shape)) if a not in reduced), *reduced)


def _count(call: Call) -> int:
    """The elements of a sum."""
    return math.prod(call.given(0).shape[a] for a in _axes(call)) if call.given(0).shape else 1


def _rows(call: Call, values: np.ndarray) -> np.ndarray:
    """(rows, n): the axes of the sum last and flat."""
    if not values.ndim:
        return values.reshape(1, 1)
    return np.ascontiguousarray(values.transpose(_order(call))).reshape(-1, _count(call))


def _beside(call: Call) -> np.ndarray | None:
    operand = call.given(0)
    return None if operand.beside is None else _rows(call, np.broadcast_to(operand.beside, operand.shape))


def _tops(call: Call) -> np.ndarray:
    """The number beside the result of each row: minus infinity for a fully masked row."""
    beside = _beside(call)
    return np.zeros(1) if beside is None else running(beside).top[:, 0]


def _scores(call: Call) -> Scores:
    """The scores less the first of their row, which may be masked: so the range that is read doubles."""
    x = call.given(0)
    shape = _rows(call, np.broadcast_to(np.int8(0), x.shape)).shape
    apart = call.bound("spread", SPREAD) + read_as_far(x)
    found = scores_of(_beside(call), shape, apart)
    added = 0.0 if found.added is None else float(-found.added.min(initial=0.0))
    return replace(found, spread=2 * (apart + added))


def _sum_cost(call: Call) -> Cost:
    scores, x = _scores(call), call.given(0)
    lengths = scores.lengths[scores.lengths > 0]
    if not len(lengths):
        return Cost()
    how = Reading(scores.spread)
    peaks = brought_up_cost(call, x) + all_powers_cost(lengths, Replicated, call.ring, how)
    peaks = peaks + numerators_cost(lengths, call.ring)
    source = how.coarse_bits
    back = over_parts(len(lengths), lambda n: resolve_cost(n, 0, source, Replicated, call.ring))
    return peaks + (log_cost(len(lengths)) | back)


def _log_sums(party: Party, call: Call, x: Replicated) -> Protocol[Replicated]:
    """log sum e^x of each row less `_tops`, (rows,), LOG_FRACTION bits; 0 for a fully masked row."""
    scores = _scores(call)
    counts, lengths = scores.lengths, scores.lengths[scores.lengths > 0]
    up = yield from brought_up(party, call, x, call.given(0))
    if not len(lengths):
        return zeros(party.index, counts.shape, call.at(LOG_FRACTION))
    turned = up.transpose(_order(call)) if up.shape else up
    flat = entered(turned.contiguous(-1, _count(call)), scores)
    # 1. each row less its first score
    starts, row = np.cumsum(lengths) - lengths, np.repeat(np.arange(len(lengths)), lengths)
    first = flat[starts]
    how = Reading(scores.spread)
    parts = yield from all_powers(party, flat - first[row], lengths, call.ring, how)
    e, tops = (yield from numerators(party, parts)), joined([part.tops for part in parts])
    # 2. the logarithm of the sum, while the maximum returns to the full ring
    sums = e.run_sums(starts)
    logarithm, highest = yield from parallel(
        [
            log_of(party, sums),
            spread(party, tops, lambda part, pivot: resolve(party, part, pivot, call.at(COARSE))),
        ]
    )
    # 3. the sum of the three
    total = logarithm + highest.aligned(LOG_FRACTION) + first.aligned(LOG_FRACTION)
    return total.plus_numbers(1.0).spaced(np.flatnonzero(counts > 0), counts.shape)


def _spreads(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x = _rows(call, np.asarray(inputs[0], np.float64))
    chosen = _scores(call).kept
    return spreads(x, np.isfinite(x) if chosen is None else chosen)


def _needs(call: Call) -> Sequence[Need]:
    x = call.given(0)
    if x.reach:
        return within_reach(x, call.bound("spread", SPREAD), farthest_apart(_scores(call).spread))
    axes = tuple(axis - len(call.given(0).shape) for axis in _axes(call))
    return (Need(0, "spread", farthest_apart(call.bound("spread", SPREAD)), axes),)


def _limits(call: Call) -> tuple[Limit, ...]:
    return (spread_limit(call.bound("spread", SPREAD), _spreads, spread_of_scores, _needs),)


def _sums_beside(call: Call) -> Beside:
    shape, tops = call.outputs[0].shape, _tops(call)
    if not np.isinf(tops).any():
        return [None]
    return [kept(np.where(np.isinf(tops), tops, 0.0).reshape(shape), shape)]


def _finite_tops(call: Call) -> np.ndarray:
    tops = _tops(call)
    return np.where(np.isinf(tops), 0.0, tops)


@operator(
    "ReduceLogSumExp",
    cost=_sum_cost,
    result=lambda call: Result(Replicated, call.at(LOG_FRACTION)),
    refuse=not_empty,
    limits=_limits,
    grows=lambda call: left_out(call.given(0).size // max(call.outputs[0].size, 1)),
    secret="first",
    error=ERROR,
    beside=_sums_beside,
    reaches=True,
)
def log_sum_exp(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """log sum e^x over axes, of scores of any size."""
    sums = (yield from _log_sums(party, call, x)).plus_numbers(_finite_tops(call))
    return [sums.reshape(call.outputs[0].shape)]


def _left_fraction(call: Call) -> int:
    """Fraction bits of the result: the logarithm's, or fewer if a secret mask puts scores far out."""
    return call.reals.fraction if call.given(0).reach > call.at(LOG_FRACTION).largest / 4 else LOG_FRACTION


def _log_cost(call: Call) -> Cost:
    total, down = _sum_cost(call), LOG_FRACTION - _left_fraction(call)
    if not down or not call.outputs[0].size:
        return total
    return total + shift_cost(_scores(call).lengths.size, down, call.ring, Replicated)


@operator(
    "LogSoftmax",
    cost=_log_cost,
    result=lambda call: Result(Replicated, call.at(_left_fraction(call))),
    limits=_limits,
    grows=lambda call: left_out(call.given(0).size // max(_scores(call).lengths.size, 1)),
    error=ERROR,
    beside=lambda call: [call.given(0).beside],
    reaches=True,
)
def log_softmax(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x less log sum e^x along an axis: the logarithm of Softmax, precise for the smallest results too."""
    sums = (yield from _log_sums(party, call, x)).plus_numbers(_finite_tops(call))
    if _left_fraction(call) < LOG_FRACTION:
        sums = yield from truncated(party, sums)
    if not x.shape:
        return [x.aligned(sums.fraction) - sums.reshape(())]
    moved = [x.shape[a] for a in _order(call)]
    column = sums.reshape(*moved[:-1], 1).broadcast_to(tuple(moved))
    return [x.aligned(sums.fraction) - column.transpose(*np.argsort(_order(call)))]
