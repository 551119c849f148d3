"""Whole numbers from secret reals: Floor, Ceil and Round, and the part before the point that a cast keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.rounding import floor, floor_cost
from onnxpuma.ops.limits import input_below
from onnxpuma.ops.registry import FRACTION, Call, operator
from onnxpuma.ops.select import positive, positive_cost
from onnxpuma.ops.spread import over_parts, spread


def floor_of(party: Party, x: Replicated) -> Protocol[Replicated]:
    """floor(x) in whole words."""

    def one(part: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
        assert isinstance(part, Replicated)
        return (yield from floor(party, part, pivot))

    return (yield from spread(party, x, one))


def floor_of_cost(size: int) -> Cost:
    return over_parts(size, lambda n: floor_cost(n, RESTING))


def towards_zero(party: Party, x: Replicated) -> Protocol[Replicated]:
    """x without what stands behind its point, in whole words: floor(max(x, 0)) - floor(max(-x, 0))."""
    above = yield from positive(party, x)
    below = above - x
    both = Replicated(
        party.index,
        np.stack([above.first, below.first]),
        np.stack([above.second, below.second]),
        Format(64, FRACTION),
    )
    parts = yield from floor_of(party, both)
    return parts.map(lambda w: w[0] - w[1])


def towards_zero_cost(size: int) -> Cost:
    return positive_cost(size) + floor_of_cost(2 * size)


@operator(
    "Floor",
    "Ceil",
    cost=lambda call: floor_of_cost(call.given(0).size),
    limits=input_below(2.0**42),
    error="exact on the fixed-point number",
)
def whole(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The next whole number below or above: of a number that is off by a unit perhaps the one beside it."""
    up = call.node.op == "Ceil"
    found = yield from floor_of(party, -x if up else x)
    words = (-found if up else found).times(np.uint64(1 << FRACTION), FRACTION)
    return [words]


def _round_cost(call: Call) -> Cost:
    size = call.given(0).size
    return over_parts(2 * size, lambda n: floor_cost(n, RESTING.finer(1))) + floor_of_cost(size)


@operator("Round", cost=_round_cost, limits=input_below(2.0**42), error="exact on the fixed-point number")
def nearest(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The nearest whole number, of two as near the even one.

    floor(x + 1/2), less a unit of the fraction before the floor is taken where floor(x) is even: there a half
    goes down.
    """
    twice = x.map(lambda w: np.stack([w + w, w]))  # as if both had a fraction bit more: x, and x / 2
    halved = Replicated(party.index, twice.first, twice.second, Format(64, FRACTION + 1))
    wholes = yield from floor_of(party, halved)
    odd = wholes.map(lambda w: w[0] - (w[1] + w[1]))
    almost = np.full(x.shape, (1 << (FRACTION - 1)) - 1, np.uint64)
    moved = (x + odd.times(np.uint64(1), FRACTION)).plus(almost)
    found = yield from floor_of(party, moved)
    return [found.times(np.uint64(1 << FRACTION), FRACTION)]
