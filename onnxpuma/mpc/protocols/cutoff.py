"""The least score that a filter of a row lets pass: top-k and top-p (docs/protocols.md, "Sampling").

Both look for the largest threshold that leaves enough above it: k elements, or elements whose weights add up
to a target. Each step compares all elements of a row with several thresholds, adds up what reaches each, and
moves the threshold up by as many steps as have enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.forms import Pair, Replicated, Split, joined, see, stacked, zeros
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.compare import (
    SHORT_BITS,
    signs,
    signs_cost,
    wide_negative,
    wide_negative_cost,
)
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost, gate, gate_cost
from onnxpuma.mpc.protocols.pivots import blocks, each_led

Piece = tuple[slice, slice]


def reaching(
    party: Party, x: Split, thresholds: tuple[int, ...], weights: Split | None, bits: int
) -> Protocol[Replicated]:
    """Of rows (rows, n) of Split(p), for each public threshold the number of elements that reach it, or the
    sum of their weights, a Split of the same pivot whose A the twins hold in halves: (rows, thresholds),
    Replicated mod 2^bits.

    Conditions: x less a threshold is at least -2^(k-1); a sum is below 2^(bits-1). Exact. Masks: those of
    `signs`, `arithmetic` or `gate`, and `replicate_pair`. The result is still on its way when this returns.
    Rounds: 4, for k above SHORT_BITS 5, the first one way from the pivot; bits: `reaching_cost`.
    """
    # 1. which elements lie below each threshold
    below = yield from signs(party, x, thresholds, deep=x.bits > SHORT_BITS)
    # 2. one, or its weight, for each that does not
    if weights is None:
        counted: list[Pair] = yield from parallel([arithmetic(party, ~bit, bits) for bit in below])
    else:
        counted = yield from parallel([gate(party, ~bit, weights) for bit in below])
    # 3. the sums of the rows
    return replicate_pair(party, stacked([each.sum(-1) for each in counted], axis=-1))


def reaching_cost(rows: int, length: int, read: int, thresholds: int, weighed: bool, bits: int) -> Cost:
    n = rows * length
    found = signs_cost(n, read, thresholds, deep=read > SHORT_BITS)
    counted = (gate_cost if weighed else arithmetic_cost)(n, bits) * thresholds
    return found + counted + replicate_pair_cost(rows * thresholds, bits)


def all_reaching(
    party: Party, x: Replicated, thresholds: tuple[int, ...], weights: Replicated | None, bits: int
) -> Protocol[Replicated]:
    """`reaching` with the rows, or the pieces of a few long ones, spread over the three pivots."""
    pieces = blocks(*x.shape)

    def each(piece: Piece, pivot: int) -> Protocol[Replicated]:
        held = None if weights is None else see(party, weights[piece], pivot)
        return (yield from reaching(party, see(party, x[piece], pivot), thresholds, held, bits))

    found = yield from each_led(party, pieces, each)
    if len(pieces) > 1 and x.shape[0] >= 3:
        return joined(found)
    total = found[0]
    for part in found[1:]:
        total = total + part
    return total


def all_reaching_cost(rows: int, length: int, read: int, thresholds: int, weighed: bool, bits: int) -> Cost:
    total = FREE
    for r, c in blocks(rows, length):
        total |= reaching_cost(r.stop - r.start, c.stop - c.start, read, thresholds, weighed, bits)
    return total


def cutoff(
    party: Party,
    x: Replicated,
    weights: Replicated | None,
    target: Replicated | npt.NDArray[np.integer] | int,
    steps: Sequence[int],
    last: int,
    bits: int,
) -> Protocol[Replicated]:
    """The largest multiple of 2^last, in units of x, that elements of a row reach whose number, or weight, is
    at least the target: rows (rows, n), 0 <= x < 2^w, to (rows,), Replicated in x's format.

    target: public ones are one for all rows, or one each, (rows, 1).
    steps: the bits of the threshold that are found at a time; with `last` they add up to w. Zero where not
    even all elements suffice. Conditions: x mod 2^(w+1) or more; all sums and the target below 2^(bits-2).
    Equal elements pass together. Masks: those of `reaching`, `wide_negative`, `arithmetic` and
    `replicate_pair`. Rounds and bits: `cutoff_cost`.
    """
    found, left = zeros(party.index, x.shape[:1], x.format), last + sum(steps)
    for step in steps:
        left -= step
        thresholds = tuple(number << left for number in range(1, 1 << step))
        # 1. to 3. what reaches each threshold
        apart = x - found.reshape(-1, 1).broadcast_to(x.shape)
        sums = yield from settle(party, (yield from all_reaching(party, apart, thresholds, weights, bits)))
        # 4. which have enough; 5. how many they are
        if isinstance(target, Replicated):
            lack = sums - target.reshape(-1, 1).broadcast_to(sums.shape)
        else:
            lack = sums.plus_numbers(-target)
        pivot = party.next_pivot()
        short = yield from wide_negative(party, see(party, lack, pivot))
        enough = yield from arithmetic(party, ~short, x.bits)
        moved = enough.sum(-1).times_integers(1 << left).with_fraction(x.fraction)
        found = found + (yield from settle(party, replicate_pair(party, moved)))
    return found


def cutoff_cost(rows: int, length: int, read: int, weighed: bool, steps: Sequence[int], bits: int) -> Cost:
    total = FREE
    for step in steps:
        count = (1 << step) - 1
        level = all_reaching_cost(rows, length, read, count, weighed, bits)
        level = level + wide_negative_cost(rows * count, bits) + arithmetic_cost(rows * count, read)
        total = total + level + replicate_pair_cost(rows, read)
    return total


def even_steps(width: int, most: int) -> tuple[int, ...]:
    """`width` bits in as few steps of at most `most` bits as there can be, of about equal size."""
    count = -(-width // most)
    return tuple((width + place) // count for place in range(count))[::-1]
