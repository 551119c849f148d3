"""Choices by an exact sign: max(x, 0), and Max, Min, Clip, Abs and piecewise-linear activations by it.

The sign is read on all of WIDE bits (mpc/wide.py), so nothing is wrong near zero and nothing overflows below
2^24; Relu itself, far more frequent, reads fewer bits (activation.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.convert import pass_on, pass_on_cost, split
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.gate import gate, gate_cost
from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import lift, lift_cost, resolve_cost
from onnxpuma.mpc.wide import wide_negative, wide_negative_cost
from onnxpuma.ops.elementwise import add_forms, aligned, as_words, public_scale
from onnxpuma.ops.limits import Limit, input_below, inputs_below
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator, resting_fraction
from onnxpuma.ops.spread import over_parts, spread, truncated

WIDE = 44  # bits of an exact comparison
FURTHEST = 2.0**23  # a public bound beyond it is moved here


def positive_part(party: Party, x: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
    """max(x, 0), |x| < 2^42 units; exact for a Replicated value. Rounds: 6."""
    seen = split(party, x, pivot, x.fraction, WIDE)
    negative = yield from wide_negative(party, seen)
    pair = yield from gate(party, ~negative, seen)
    return (yield from lift(party, pass_on(party, pair), 64))


def positive_part_cost(elements: int) -> Cost:
    back = pass_on_cost(elements, WIDE) | lift_cost(elements, WIDE, 64)
    return wide_negative_cost(elements, WIDE) + gate_cost(elements, WIDE) + back


def positive(party: Party, x: Replicated | Sum3) -> Protocol[Replicated]:
    """max(x, 0) over the three pivots."""
    return (yield from spread(party, x, lambda part, pivot: positive_part(party, part, pivot)))


def positive_cost(elements: int) -> Cost:
    return over_parts(elements, positive_part_cost)


def bounded(values: np.ndarray) -> np.ndarray:
    """A public bound inside the range of comparisons: one further out decides nothing."""
    return np.asarray(np.clip(values.astype(np.float64), -FURTHEST, FURTHEST))


def holds_nan(call: Call) -> str | None:
    """Refuse a public input that is not a number somewhere."""
    for operand in call.inputs:
        if operand is not None and operand.value is not None and np.isnan(operand.value).any():
            return f"its public input '{operand.name}' holds NaN"
    return None


def _extreme_cost(call: Call) -> Cost:
    total, shape = Cost(), call.given(0).shape
    secret = call.given(0).secret
    for operand in call.inputs[1:]:
        assert operand is not None
        shape = np.broadcast_shapes(shape, operand.shape)
        if secret or operand.secret:
            total = total + positive_cost(int(np.prod(shape, dtype=np.int64)))
        secret = secret or operand.secret
    return total


def _resting(call: Call) -> Result:
    return Result(Replicated, resting_fraction(call.outputs[0].dtype))


def larger(party: Party, a: Value, b: Value) -> Protocol[Replicated]:
    """max(a, b) = b + max(a - b, 0), with broadcasting; at least one is secret."""
    lead = add_forms(a, b, -1, party)
    assert isinstance(lead, Replicated)
    won = yield from positive(party, lead)
    result = add_forms(won, b, 1, party)
    assert isinstance(result, Replicated)
    return result


def smaller(party: Party, a: Value, b: Value) -> Protocol[Replicated]:
    """min(a, b) = a - max(a - b, 0)."""
    lead = add_forms(a, b, -1, party)
    assert isinstance(lead, Replicated)
    won = yield from positive(party, lead)
    result = add_forms(a, won, -1, party)
    assert isinstance(result, Replicated)
    return result


@operator(
    "Max", "Min",
    cost=_extreme_cost, result=_resting, refuse=holds_nan, limits=inputs_below(2.0**23), integers=True,
)  # fmt: skip
def extreme(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """The largest or smallest of any number of values."""
    largest = call.node.op == "Max"
    result = values[0]
    if isinstance(result, np.ndarray):
        result = bounded(result)
    for value in values[1:]:
        if isinstance(value, np.ndarray):
            value = bounded(value)
        if isinstance(result, np.ndarray) and isinstance(value, np.ndarray):
            result = np.maximum(result, value) if largest else np.minimum(result, value)
        elif largest:
            result = yield from larger(party, result, value)
        else:
            result = yield from smaller(party, result, value)
    assert isinstance(result, Replicated)
    return [result]


def _bounds(call: Call) -> tuple[bool, bool]:
    """Whether there is anything to do at the lower and at the upper end."""
    low, high = call.operand(1), call.operand(2)
    lower = low is not None and (low.value is None or float(low.value) > -FURTHEST)
    upper = high is not None and (high.value is None or float(high.value) < FURTHEST)
    return lower, upper


def _clip_cost(call: Call) -> Cost:
    size, (lower, upper) = call.given(0).size, _bounds(call)
    if not call.secret(1) and not call.secret(2):
        return positive_cost(size * (lower + upper)) if lower or upper else Cost()
    return (positive_cost(size) if lower else Cost()) + (positive_cost(size) if upper else Cost())


@operator(
    "Clip", cost=_clip_cost, result=_resting, refuse=holds_nan, limits=input_below(2.0**23), integers=True
)
def clip(
    party: Party, call: Call, x: Value, low: Value = None, high: Value = None
) -> Protocol[Sequence[Form]]:
    """min(max(x, low), high)."""
    x = _as_value(party, x)
    lower, upper = _bounds(call)
    if not call.secret(1) and not call.secret(2):
        return [(yield from clipped(party, x, low if lower else None, high if upper else None))]  # type: ignore[arg-type]
    if lower:
        x = yield from larger(party, x, bounded(low) if isinstance(low, np.ndarray) else low)
    if upper:
        x = yield from smaller(party, x, bounded(high) if isinstance(high, np.ndarray) else high)
    return [x]


def _as_value(party: Party, x: Value) -> Replicated:
    if isinstance(x, Replicated):
        return x
    words = as_words(np.rint(bounded(np.asarray(x)) * 2.0**FRACTION).astype(np.int64))
    nothing = np.zeros_like(words)
    first = words if party.index == 0 else nothing
    second = words if party.index == 2 else nothing
    return Replicated(party.index, first, second, 64, FRACTION)


def clipped(
    party: Party, x: Replicated, low: np.ndarray | float | None, high: np.ndarray | float | None
) -> Protocol[Replicated]:
    """x + max(low - x, 0) - max(x - high, 0), both at once, for public bounds."""
    sides: list[Replicated] = []
    top = None if high is None else bounded(np.asarray(high))
    if low is not None:
        bottom = bounded(np.asarray(low))
        lowest = bottom if top is None else np.asarray(np.minimum(bottom, top))
        side = add_forms(lowest, x, -1, party)
        assert isinstance(side, Replicated)
        sides.append(side)
    if top is not None:
        side = add_forms(x, top, -1, party)
        assert isinstance(side, Replicated)
        sides.append(side)
    if not sides:
        return x
    first = np.concatenate([s.first.reshape(-1) for s in sides])
    second = np.concatenate([s.second.reshape(-1) for s in sides])
    both = yield from positive(party, Replicated(party.index, first, second, 64, x.fraction))
    if low is not None:
        x = x + both.map(lambda w: w[: x.size].reshape(x.shape))
    if top is not None:
        x = x - both.map(lambda w: w[-x.size :].reshape(x.shape))
    return x


def _size_cost(call: Call) -> Cost:
    return positive_cost(call.given(0).size)


@operator("Abs", cost=_size_cost, result=_resting, limits=input_below(2.0**24), integers=True)
def absolute(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """|x| = 2 max(x, 0) - x."""
    part = yield from positive(party, x)
    return [part + part - x]


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
)
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
    x = _as_value(party, given)
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
    return over_parts(size, lambda n: resolve_cost(n, fraction, form=Replicated)) + positive_cost(2 * size)


@operator("HardSigmoid", cost=_hard_sigmoid_cost, limits=input_below(2.0**23), error="two units of 2^-18")
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
    return over_parts(size, lambda n: resolve_cost(n, fraction, form=Replicated)) + positive_cost(2 * size)


def _product(call: Call) -> Result:
    return Result(Sum3, 2 * FRACTION)


@operator("HardSwish", cost=_hard_swish_cost, result=_product, limits=input_below(2.0**23), error="2e-5 |x|")
def hard_swish(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x times HardSigmoid(x) with alpha 1/6 and beta 1/2."""
    return [multiply(party, x, (yield from _hard(party, x, 1 / 6, 0.5)))]
