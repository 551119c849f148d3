"""Exp, Log, and the activations that are an exponential below zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.exponential import HIGHEST, exponential, exponential_cost
from onnxpuma.mpc.protocols.logarithm import FRACTION as LOG_FRACTION
from onnxpuma.mpc.protocols.logarithm import logarithm, logarithm_cost
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.ops.comparison import FURTHEST, WIDE, width
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.elementwise import add_forms
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import EVERYTHING, Limit, asks, input_below, signed_input, size_of
from onnxpuma.ops.registry import Call, Result, operator
from onnxpuma.ops.select import positive, positive_cost
from onnxpuma.ops.sight import seen
from onnxpuma.ops.spread import shift_cost, truncated

_LEAST_BITS = 27  # up to 64 on either side
_BELOW_ZERO = 1.0  # above every argument that is at most zero, error included


def exp_of(party: Party, x: Replicated, top: float = math.inf, bits: int = WIDE) -> Protocol[Replicated]:
    """e^x for x clamped between -20 and 29.8. top: a known upper bound of x."""

    return (yield from spread(party, x, lambda part, pivot: exponential(party, part, pivot, top, bits)))


def exp_cost(size: int, top: float = math.inf, bits: int = WIDE) -> Cost:
    return over_parts(size, lambda n: exponential_cost(n, top, bits))


def _top(call: Call) -> float:
    """The proved upper bound of the arguments, with a margin for errors."""
    x = call.given(0)
    masked = x.beside is not None or x.reach or x.hollow
    return math.inf if masked else x.bound.high * (1.01 if x.bound.high > 0 else 1.0) + 2.0**-4


def _exp_bits(call: Call) -> int:
    return max(width(call), _LEAST_BITS)


def _exp_cost(call: Call) -> Cost:
    return exp_cost(call.given(0).size, _top(call), _exp_bits(call))


def _exp_limits(call: Call) -> tuple[Limit, ...]:
    stays, falls = (lambda call: seen(call.given(0)).high), (lambda call: seen(call.given(0)).low)
    needs = asks("below", HIGHEST)
    return (Limit("x", signed_input(), HIGHEST, -FURTHEST, stays=stays, needs=needs, falls=falls),)


@operator(
    "Exp",
    cost=_exp_cost,
    limits=_exp_limits,
    error="2e-5 of the result and two units of 2^-18",
    beside=of_elements,
    reaches=True,
)
@by_element
def exp(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """e^x for x between -20 and 29.8; a smaller x gives 2e-9, a larger one 2^43."""
    return [(yield from exp_of(party, x, _top(call), _exp_bits(call)))]


def log_of(party: Party, x: Replicated | Sum3) -> Protocol[Replicated]:
    """log(x) of a positive x at LOG_FRACTION fraction bits."""
    return (yield from spread(party, x, lambda part, pivot: logarithm(party, part, pivot)))


def log_cost(size: int, form: type = Replicated) -> Cost:
    return over_parts(size, lambda n: logarithm_cost(n, RESTING.bits, form))


def _log_result(call: Call) -> Result:
    return Result(Replicated, call.at(LOG_FRACTION))


def _log_limits(call: Call) -> tuple[Limit, ...]:
    falls, needs = (lambda call: seen(call.given(0)).low), asks("positive", call.reals.unit)
    least = Limit("x", signed_input(), least=call.reals.unit, needs=needs, falls=falls)
    below = min((o.format.largest / 2 for o in call.secrets), default=EVERYTHING)
    if below >= EVERYTHING:
        return (least,)
    return least, Limit("x", signed_input(), below, stays=size_of(), needs=asks("element", below))


@operator(
    "Log",
    cost=lambda call: log_cost(call.given(0).size, call.given(0).form),
    defers=(0,),
    result=_log_result,
    limits=_log_limits,
    error="one unit of 2^-18 of the argument and of the result",
    reaches=True,
)
def log(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """log(x) of a positive x; zero or less gives an arbitrary number."""
    return [(yield from log_of(party, x))]


def _parameters(call: Call) -> tuple[float, float, float]:
    """(a, b, c) of y = c max(x, 0) + a (e^(b min(x, 0)) - 1)."""
    alpha = float(call.attribute("alpha"))
    if call.node.op == "Selu":
        gamma = float(call.attribute("gamma"))
        return gamma * alpha, 1.0, gamma
    return alpha, 1.0 / alpha if call.node.op == "Celu" else 1.0, 1.0


def _fractions(call: Call) -> tuple[int, int, int]:
    a, b, c = (factor_bits(v) for v in _parameters(call))
    return a, b, c


def _elu_cost(call: Call) -> Cost:
    size = call.given(0).size
    _, by, _ = _fractions(call)
    below = shift_cost(size, by, call.ring, Replicated) if by else Cost()
    return positive_cost(size) + below + exp_cost(size, _BELOW_ZERO)


def _elu_result(call: Call) -> Result:
    a, _, c = _fractions(call)
    return Result(Replicated, call.at(call.reals.fraction + max(a, c)))


def _elu_limits(call: Call) -> tuple[Limit, ...]:
    """The part above zero has the scale of the part below, which is multiplied before exp."""
    _, slope, _ = _parameters(call)
    most = call.reals.finer(_fractions(call)[1]).largest / max(abs(slope), 1.0)
    return input_below(min(FURTHEST, most, call.outputs[0].format.largest))(call)


def _elu_refusal(call: Call) -> str | None:
    return None if _parameters(call)[1] > 0 else "its alpha is not positive"


@operator(
    "Elu", "Selu", "Celu",
    cost=_elu_cost, result=_elu_result, refuse=_elu_refusal, limits=_elu_limits, error="1e-5",
    beside=of_elements,
)  # fmt: skip
@by_element
def elu(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """x above zero, a scaled e^x - 1 below it."""
    a, b, c = _parameters(call)
    above = yield from positive(party, x)
    below = yield from truncated(party, times_numbers(x - above, b))
    power = yield from exp_of(party, below, _BELOW_ZERO)
    left, right = times_numbers(power.plus_numbers(-1.0), a), times_numbers(above, c)
    return [add_forms(left, right, 1)]
