"""Whole numbers from secret reals: Floor, Ceil, Round, and the truncation of a cast."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, stacked
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.rounding import floor, floor_cost
from onnxpuma.ops.limits import input_below
from onnxpuma.ops.registry import Call, operator
from onnxpuma.ops.select import positive, positive_cost


def floor_of(party: Party, x: Replicated) -> Protocol[Replicated]:
    """floor(x) in whole words."""
    return (yield from spread(party, x, lambda part, pivot: floor(party, part, pivot)))


def floor_of_cost(size: int) -> Cost:
    return over_parts(size, lambda n: floor_cost(n, RESTING))


def towards_zero(party: Party, x: Replicated) -> Protocol[Replicated]:
    """x without its fraction, in whole words: floor(max(x, 0)) - floor(max(-x, 0))."""
    above = yield from positive(party, x)
    below = above - x
    parts = yield from floor_of(party, stacked([above, below]))
    return parts[0] - parts[1]


def towards_zero_cost(size: int) -> Cost:
    return positive_cost(size) + floor_of_cost(2 * size)


@operator(
    "Floor",
    "Ceil",
    cost=lambda call: floor_of_cost(call.given(0).size),
    limits=input_below(RESTING.largest / 4),
    error="exact on the fixed-point number",
)
def whole(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The next whole number below or above; an error of one unit in x may give its neighbour."""
    up = call.node.op == "Ceil"
    found = yield from floor_of(party, -x if up else x)
    return [(-found if up else found).aligned(call.reals.fraction)]


def _round_cost(call: Call) -> Cost:
    size = call.given(0).size
    return over_parts(2 * size, lambda n: floor_cost(n, call.reals.finer(1))) + floor_of_cost(size)


@operator(
    "Round",
    cost=_round_cost,
    limits=input_below(RESTING.largest / 4),
    error="exact on the fixed-point number",
)
def nearest(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The nearest whole number; of two equally near, the even one.

    floor(x + 1/2), where one unit is subtracted before the floor if floor(x) is even: a half then goes down.
    """
    f = x.fraction
    halved = stacked([x + x, x]).with_fraction(f + 1)  # x, and x / 2, with a fraction bit more
    wholes = yield from floor_of(party, halved)
    odd = wholes[0] - (wholes[1] + wholes[1])
    moved = (x + odd.with_fraction(f)).plus_numbers(0.5 - 2.0**-f)
    found = yield from floor_of(party, moved)
    return [found.aligned(f)]
