"""The context of an attention: the sums of values times numerators, over the sums of the numerators.

The product with a reciprocal may run before that is Replicated (protocols/row_factor.py): a round less. The
plan takes the faster way on its network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated, Shares, joined
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.linear import matmul, multiply
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.pivots import runs
from onnxpuma.mpc.protocols.row_factor import times_factors, times_factors_cost
from onnxpuma.ops.attention_left import scores_a_row, scores_left
from onnxpuma.ops.attention_positions import shapes_of, shown_scores
from onnxpuma.ops.attention_reading import numerator_bits, reading_of
from onnxpuma.ops.numerators import (
    Powers,
    numerators,
    numerators_cost,
    reciprocals_at_twins,
    row_reciprocals,
    row_reciprocals_cost,
)
from onnxpuma.ops.registry import Call
from onnxpuma.ops.shares import in_one_ring
from onnxpuma.ops.spread import shift_cost, truncated


def context_of(
    party: Party,
    call: Call,
    parts: Sequence[Powers],
    standing: np.ndarray | None,
    v: Replicated,
    shown: Shares,
) -> Protocol[tuple[Replicated, Replicated]]:
    """The context, and `shown` or the weights as the fourth output (the context again if no node reads them).

    Rounds and bits: `context_costs`.
    """
    wider, longest, how = _wider(call), shapes_of(call).keys, reading_of(call)
    asked = party, parts, longest, how, call.ring, call.network
    inverses: Protocol[Any] = reciprocals_at_twins(*asked, wider) if wider else row_reciprocals(*asked)
    before: list[Protocol[Any]] = [_weighted(party, call, parts, standing, v), inverses]
    (weights, sums), inverse = yield from parallel(before)
    if wider:
        quotient = _times_reciprocals(party, call, sums, inverse)
    else:
        factor = inverse.spaced(np.flatnonzero(_rows_left(call)), (*sums.shape[:3], 1))
        quotient = truncated(party, multiply(party, sums, factor), call.outputs[0].resting)
        shown = multiply(party, weights, factor) if shown_scores(call) == 3 else shown
    beside = [] if shown_scores(call) is None else [truncated(party, shown)]
    done = yield from parallel([quotient, *beside])
    return done[0], done[-1]


def context_costs(call: Call) -> tuple[Cost, Cost]:
    """From the numerators at the twins to sums and reciprocals, and from these to the context."""
    wider = _wider(call)
    return _beside_costs(call, wider) if wider else _after_costs(call)


def _weighted(
    party: Party, call: Call, parts: Sequence[Powers], standing: np.ndarray | None, v: Replicated
) -> Protocol[tuple[Replicated, Replicated]]:
    """The numerators by keys, (batch, heads, queries, keys), and the sums of values times them."""
    e = yield from numerators(party, parts)
    weights = e.spaced(standing, shapes_of(call).scores)
    product, made = matmul(party, *in_one_ring(weights, v)), call.reals.finer(reading_of(call).more)
    return weights, (yield from truncated(party, product, made.modulo(_sum_bits(call))))


def _times_reciprocals(
    party: Party, call: Call, sums: Replicated, inverses: Sequence[LongPair]
) -> Protocol[Replicated]:
    """The sums over those of the numerators; zeros in rows without a numerator."""
    kept, width = np.flatnonzero(_rows_left(call)), sums.shape[3]
    flat, made = sums.reshape(-1, width)[kept], call.outputs[0].resting
    fraction = reading_of(call).sum_read(call.ring)
    ends = np.cumsum([0, *(inverse.shape[0] for inverse in inverses)])
    found = yield from parallel(
        times_factors(party, flat[first:end], inverse, fraction, made)
        for first, end, inverse in zip(ends, ends[1:], inverses, strict=False)
    )
    places = (kept[:, None] * width + np.arange(width)).reshape(-1)
    return joined(found).reshape(-1).spaced(places, sums.shape)


def _rows_left(call: Call) -> np.ndarray:
    """Whether a row has any score that takes part."""
    return scores_left(call).lengths > 0


@lru_cache(maxsize=4)
def _wider(call: Call) -> int:
    """Bits above a word in which the twins keep the reciprocals; 0: they become Replicated first."""
    how, ways = reading_of(call), {"quotient after the reciprocal": 0}
    wider = call.outputs[0].resting.bits + how.more + how.sum_read(call.ring) - call.ring
    costs = {0: sum(_after_costs(call), Cost())}
    if wider > 0 and call.ring >= RESTING.bits and shown_scores(call) != 3:
        try:
            costs[wider] = sum(_beside_costs(call, wider), Cost())
            ways["quotient beside the reciprocal"] = wider
        except ProtocolError:  # no ring is that wide
            pass
    return ways[call.network.fastest({name: costs[way] for name, way in ways.items()})]


def _sum_bits(call: Call) -> int:
    """Bits of the ring of the sums: all, for a product of words; the fewest, for a product by row."""
    how = reading_of(call)
    return numerator_bits(call) - how.numerator + how.more if _wider(call) else call.ring


def _lengths(call: Call) -> np.ndarray:
    lengths = scores_a_row(call)
    return lengths[lengths > 0]


def _after_costs(call: Call) -> tuple[Cost, Cost]:
    how, s, lengths, ring = reading_of(call), shapes_of(call), _lengths(call), numerator_bits(call)
    sums = shift_cost(s.context, how.numerator - how.more, ring, bits=call.ring)
    inverse = row_reciprocals_cost(lengths, s.keys, call.ring, how, call.network)
    made, shift = call.outputs[0].resting.bits, how.more + how.sum_read(call.ring)
    return (numerators_cost(lengths, ring) + sums) | inverse, shift_cost(
        s.context, shift, call.ring, bits=made
    )


def _beside_costs(call: Call, wider: int) -> tuple[Cost, Cost]:
    how, s, lengths, ring = reading_of(call), shapes_of(call), _lengths(call), numerator_bits(call)
    shift = how.numerator - how.more
    sums = shift_cost(s.context, shift, ring, bits=ring - shift)
    inverse = row_reciprocals_cost(lengths, s.keys, call.ring, how, call.network, wider)
    made, total = call.outputs[0].resting.bits, Cost()
    for rows, _ in runs(lengths):
        count = rows.stop - rows.start
        total |= times_factors_cost(count, s.value_size, ring - shift, call.ring + wider, made)
    return (numerators_cost(lengths, ring) + sums) | inverse, total
