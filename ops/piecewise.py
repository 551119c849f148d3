"""Activations of straight pieces: LeakyRelu, PRelu, HardSigmoid and HardSwish, by an exact sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.clamp import between_and_above, between_and_above_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.truncate import resolve
from onnxpuma.ops.comparison import bits_for, compared, width
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.factors import factor_bits, public_scale, times_numbers
from onnxpuma.ops.limits import Limit, input_below
from onnxpuma.ops.registry import Call, Resolved, Result, operator
from onnxpuma.ops.select import as_value, clipped, clipped_cost, positive, size_cost
from onnxpuma.ops.spread import shift_cost, truncated


def _below_zero(call: Call) -> tuple[int, np.ndarray]:
    """Fraction bits and integers of a public slope."""
    slope = call.public(1)
    return public_scale(np.float64(call.attribute("alpha"))) if slope is None else public_scale(slope)


def _truncated_cost(call: Call) -> Cost:
    size, (fraction, _) = call.outputs[0].size, _below_zero(call)
    back = shift_cost(size, fraction, call.ring, Replicated) if fraction else Cost()
    return size_cost(call) + back


def _sloped(party: Party, call: Call, x: Replicated) -> Protocol[Replicated]:
    """x above zero, x times a public slope below it; only the part below is truncated."""
    part = yield from positive(party, x, width(call), call.network)
    fraction, integers = _below_zero(call)
    below = yield from truncated(party, (x - part).times_integers(integers, fraction))
    return below + part


def _sloped_limits(call: Call) -> tuple[Limit, ...]:
    """The limit of x: the part below zero is a product."""
    _, integers = _below_zero(call)
    largest = max(1.0, float(np.abs(integers).max(initial=1)))
    whole = compared(call)[0].below
    return input_below(min(whole, call.reals.largest / 2.0 ** np.ceil(np.log2(largest))))(call)


@operator(
    "LeakyRelu",
    cost=_truncated_cost,
    limits=_sloped_limits,
    error="one unit of 2^-18",
    beside=of_elements,
)
@by_element
def leaky_relu(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x above zero, alpha x below it."""
    return [(yield from _sloped(party, call, x))]


def _parametric_cost(call: Call) -> Cost:
    return size_cost(call) if call.secret(1) else _truncated_cost(call)


def _parametric_result(call: Call) -> Result:
    slope = call.given(1)
    return Result(Sum3, call.at(call.reals.fraction + slope.fraction)) if slope.secret else Result()


def _parametric_limits(call: Call) -> tuple[Limit, ...]:
    """The limit of x: with a secret slope the part above zero has the scale of the product."""
    if not call.inputs or not call.secret(1):
        return _sloped_limits(call)
    return input_below(min(compared(call)[0].below, call.outputs[0].format.largest))(call)


@operator(
    "PRelu",
    cost=_parametric_cost,
    result=_parametric_result,
    limits=_parametric_limits,
    error="one unit of 2^-18",
    fine=lambda node: {1: 24},  # the part above zero has the scale of the product
)
def parametric_relu(party: Party, call: Call, given: Resolved, slope: Resolved) -> Protocol[Sequence[Form]]:
    """x above zero, slope x below it."""
    x = as_value(party, given, call.reals)
    if isinstance(slope, np.ndarray):
        return [(yield from _sloped(party, call, x))]
    part = yield from positive(party, x, width(call), call.network)
    return [multiply(party, x - part, slope).plus_shared(part)]


def _ends(alpha: float, beta: float) -> tuple[float, float]:
    """The interval of x in which alpha x + beta lies between 0 and 1."""
    if alpha == 0:
        return 0.0, 0.0
    first, second = -beta / alpha, (1 - beta) / alpha
    return min(first, second), max(first, second)


def _line(call: Call) -> tuple[float, float]:
    return float(call.attribute("alpha")), float(call.attribute("beta"))


def _hard_cost(call: Call) -> Cost:
    return clipped_cost(
        call.given(0).size, *_ends(*_line(call)), bits=_hard_width(call), network=call.network
    )


def _hard_width(call: Call) -> int:
    """Bits of x, and of its distance from the ends of the line."""
    return max(width(call), bits_for(max(map(abs, _ends(*_line(call))))))


def _hard_result(call: Call) -> Result:
    return Result(Replicated, call.at(call.reals.fraction + factor_bits(_line(call)[0])))


def _hard_refusal(call: Call) -> str | None:
    alpha, beta = _line(call)
    if max(map(abs, _ends(alpha, beta))) < 2.0**20 and abs(beta) < 2.0**20:
        return None
    return "its line is so flat that it ends beyond 2^20"


@operator(
    "HardSigmoid",
    cost=_hard_cost,
    result=_hard_result,
    refuse=_hard_refusal,
    limits=compared,
    error="two units of 2^-18",
    beside=of_elements,
)
@by_element
def hard_sigmoid(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """alpha x + beta clamped between 0 and 1: x is clamped between the ends of the line first."""
    alpha, beta = _line(call)
    held = yield from clipped(party, x, *_ends(alpha, beta), _hard_width(call), call.network)
    start = min(max(beta, 0.0), 1.0) if alpha == 0 else beta
    return [times_numbers(held, alpha).plus_numbers(start)]


_BEND = 3 << RESTING.fraction  # a HardSwish is a parabola from minus to plus this
_SIXTH, _SIX = public_scale(1 / 6)


def _hard_swish_cost(call: Call) -> Cost:
    size, bits = call.given(0).size, max(width(call), call.reals.fraction + 6)
    parabola = shift_cost(size, call.reals.fraction + _SIXTH, call.ring)
    return over_parts(size, lambda n: between_and_above_cost(n, -_BEND, _BEND, bits, call.ring)) + parabola


@operator(
    "HardSwish",
    cost=_hard_swish_cost,
    limits=compared,
    error="2e-5",
    beside=of_elements,
)
@by_element
def hard_swish(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x times HardSigmoid(x) with alpha 1/6 and beta 1/2: c (c + 3) / 6 + max(x - 3, 0), where c is x clamped
    between -3 and 3.
    """
    bits = max(width(call), call.reals.fraction + 6)

    def each(part: Replicated, pivot: int) -> Protocol[Replicated]:
        held, over = yield from between_and_above(party, part, pivot, -_BEND, _BEND, bits)
        parabola = multiply(party, held, held.plus_numbers(3.0))
        sixth = parabola.times_integers(_SIX, _SIXTH)
        return (yield from resolve(party, sixth, pivot, part.format)) + over

    return [(yield from spread(party, x, each))]
