"""Activations of straight pieces: LeakyRelu, PRelu, HardSigmoid and HardSwish, by an exact sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import resolve_cost
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.elementwise import aligned, as_words, public_scale
from onnxpuma.ops.limits import Limit, input_below
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator
from onnxpuma.ops.select import as_value, clipped, clipped_cost, positive, positive_cost
from onnxpuma.ops.spread import over_parts, truncated


def _size_cost(call: Call) -> Cost:
    return positive_cost(call.given(0).size)


def _slope(call: Call, default: float) -> tuple[int, np.ndarray]:
    return public_scale(np.float64(call.attribute("alpha", default)))


def _unscaled(call: Call) -> tuple[Limit, ...]:
    """What lies above zero stands at the scale of what lies below, until that is truncated."""
    return input_below(2.0 ** min(24, 62 - call.outputs[0].fraction))(call)


def _leaky_result(call: Call) -> Result:
    return Result(Replicated, FRACTION + _slope(call, 0.01)[0])


@operator(
    "LeakyRelu",
    cost=_size_cost,
    result=_leaky_result,
    limits=_unscaled,
    error="one unit of 2^-18",
    beside=of_elements,
)
@by_element
def leaky_relu(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x above zero, alpha x below it."""
    part = yield from positive(party, x)
    fraction, integer = _slope(call, 0.01)
    below = (x - part).times(as_words(integer), fraction)
    above = aligned(part, below.fraction)
    assert isinstance(above, Replicated)
    return [below + above]


def _parametric_result(call: Call) -> Result:
    slope = call.given(1)
    if slope.secret:
        return Result(Sum3, FRACTION + slope.fraction)
    return Result(Replicated, FRACTION + public_scale(slope.value)[0])  # type: ignore[arg-type]


@operator(
    "PRelu",
    cost=_size_cost,
    result=_parametric_result,
    limits=_unscaled,
    error="one unit of 2^-18",
    fine=lambda node: {1: 24},  # what lies above zero stands at the product's scale
)
def parametric_relu(party: Party, call: Call, given: Value, slope: Value) -> Protocol[Sequence[Form]]:
    """x above zero, slope x below it."""
    x = as_value(party, given)
    part = yield from positive(party, x)
    if isinstance(slope, Replicated):
        return [multiply(party, x - part, slope).plus_shared(part)]
    assert isinstance(slope, np.ndarray)
    fraction, integers = public_scale(slope)
    below = (x - part).times(as_words(integers), fraction)
    above = aligned(part, below.fraction)
    assert isinstance(above, Replicated)
    return [below + above]


def _hard_sigmoid_cost(call: Call) -> Cost:
    fraction = public_scale(np.float64(call.attribute("alpha", 0.2)))[0]
    size = call.given(0).size
    line = over_parts(size, lambda n: resolve_cost(n, fraction, form=Replicated))
    return line + clipped_cost(size, 0.0, 1.0)


@operator(
    "HardSigmoid",
    cost=_hard_sigmoid_cost,
    limits=input_below(2.0**23),
    error="two units of 2^-18",
    beside=of_elements,
)
@by_element
def hard_sigmoid(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """alpha x + beta between 0 and 1, |alpha x| < 2^23."""
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return [(yield from _hard(party, x, float(alpha), float(beta)))]


def _hard(party: Party, x: Replicated, alpha: float, beta: float) -> Protocol[Replicated]:
    fraction, integer = public_scale(np.float64(alpha))
    line = yield from truncated(party, x.times(as_words(integer), fraction))
    line = line.plus(as_words(np.rint(np.float64(beta) * 2.0**FRACTION)))
    return (yield from clipped(party, line, 0.0, 1.0))


def _hard_swish_cost(call: Call) -> Cost:
    fraction = public_scale(np.float64(1 / 6))[0]
    size = call.given(0).size
    line = over_parts(size, lambda n: resolve_cost(n, fraction, form=Replicated))
    return line + clipped_cost(size, 0.0, 1.0)


def _product(call: Call) -> Result:
    return Result(Sum3, 2 * FRACTION)


@operator(
    "HardSwish",
    cost=_hard_swish_cost,
    result=_product,
    limits=input_below(2.0**23),
    error="2e-5 |x|",
    beside=of_elements,
)
@by_element
def hard_swish(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x times HardSigmoid(x) with alpha 1/6 and beta 1/2."""
    return [multiply(party, x, (yield from _hard(party, x, 1 / 6, 0.5)))]
