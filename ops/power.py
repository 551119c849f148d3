"""Powers: products for whole exponents, roots for halves, e^(y log x) for all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, Shares, chosen, trivial
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.exponential import LOG_FRACTION, exp_cost, exp_of, log_cost, log_of
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import Limit, asks, of_input, output_in_product, signed_input
from onnxpuma.ops.quotient import (
    QUOTIENT_FRACTION,
    distance,
    divided,
    inverse_root,
    inverse_root_cost,
    quotient_cost,
    root,
    root_cost,
)
from onnxpuma.ops.registry import Call, Resolved, Value, operator
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.sight import seen
from onnxpuma.ops.spread import shift_cost, truncated
from onnxpuma.standard.fixed_point import FIVE_BITS

LARGEST_POWER = 16


def _exponents(call: Call) -> np.ndarray:
    return np.unique(np.asarray(call.public(1), np.float64))


def _steps(highest: int) -> list[int]:
    """The powers computed on the way to x^highest, in order, by halving: 5 -> [2, 3, 5]."""
    made: set[int] = set()
    wanted = [highest]
    while wanted:
        power = wanted.pop()
        if power > 1 and power not in made:
            made.add(power)
            wanted += [power // 2, power - power // 2]
    return sorted(made)


def _needed(exponents: np.ndarray) -> list[int]:
    return sorted({step for e in exponents if e == int(e) for step in _steps(abs(int(e)))})


def _general(call: Call) -> bool:
    """Whether the power needs a logarithm: its exponent is secret, or neither whole nor a half."""
    if not call.secret(0) or call.public(1) is None:
        return True
    exponents = _exponents(call)
    if len(exponents) == 1 and abs(exponents[0]) == 0.5:
        return False
    whole = all(e == int(e) and abs(e) <= LARGEST_POWER for e in exponents)
    return not whole or (len(exponents) > 1 and exponents.min() < 0)


def _power_refusal(call: Call) -> str | None:
    if call.outputs[0].dtype.kind != "f":
        return "its base is an integer"
    exponent = call.public(1)
    if exponent is not None and not np.isfinite(exponent).all():
        return "its exponent is not a number"
    return None


def _general_cost(call: Call) -> Cost:
    size, exponent = call.outputs[0].size, call.given(1)
    if exponent.secret:
        product = shift_cost(size, LOG_FRACTION, call.ring)
    else:
        shift = LOG_FRACTION + factor_bits(np.asarray(exponent.value)) - call.reals.fraction
        product = shift_cost(size, shift, call.ring, Replicated)
    return log_cost(call.given(0).size) + product + exp_cost(size)


def _by_logarithm(party: Party, x: Replicated, exponent: Resolved) -> Protocol[Replicated]:
    """e^(y log x)."""
    logarithm = yield from log_of(party, x)
    if isinstance(exponent, np.ndarray):
        product: Shares = times_numbers(logarithm, exponent)
    else:
        product = multiply(party, logarithm, exponent)
    return (yield from exp_of(party, (yield from truncated(party, product))))


def _truncation_cost(size: int) -> Cost:
    return shift_cost(size, RESTING.fraction, RESTING.bits)


def _power_cost(call: Call) -> Cost:
    if _general(call):
        return _general_cost(call)
    exponents, size = _exponents(call), call.given(0).size
    if exponents[0] == 0.5:
        return root_cost(size, call.network)
    if exponents[0] == -0.5:
        return inverse_root_cost(size, call.reals, call.reals.fraction, call.network)
    total = Cost()
    for _ in _needed(exponents):
        total = total + _truncation_cost(size)
    if exponents[0] < 0:
        total = total + quotient_cost(size, size, False)
        total = total + shift_cost(size, QUOTIENT_FRACTION - call.reals.fraction, call.ring)
    return total


def _power_limits(call: Call) -> tuple[Limit, ...]:
    """The size of the result, and the distance from zero of a base whose logarithm or reciprocal is taken."""
    found = output_in_product(call)
    if not call.inputs or not call.secret(0):
        return found
    exponent, general = call.public(1), _general(call)
    falling = exponent is None or float(np.min(exponent, initial=0.0)) < 0
    least = FIVE_BITS if falling else 2.0**-call.reals.fraction
    if general or (falling and float(np.max(np.asarray(exponent))) == -0.5):
        low, needs = (lambda call: seen(call.given(0)).low), asks("positive", least)
        return (*found, Limit("x", signed_input(), least=least, needs=needs, falls=low))
    if falling:
        needs = asks("nonzero", least)
        return (*found, Limit("|x|", of_input(), least=least, needs=needs, falls=distance(0)))
    return found


@operator(
    "Pow",
    cost=_power_cost,
    refuse=_power_refusal,
    limits=_power_limits,
    tolerance=1e-3,
    error="one unit of 2^-18 at each product; roots and reciprocals as there; by logarithms 1e-5 of it",
)
def power(party: Party, call: Call, base: Value, exponent: Resolved) -> Protocol[Sequence[Form]]:
    """x^n for a public whole n by repeated products, each below 2^26, for a half by a root; any other power
    of a positive x by its logarithm."""
    x = as_shares(party, base, call.reals)
    if _general(call):
        return [(yield from _by_logarithm(party, x, exponent))]
    exponents = _exponents(call)
    if exponents[0] == 0.5:
        return [(yield from root(party, x, call.network))]
    if exponents[0] == -0.5:
        return [(yield from inverse_root(party, x, call.reals.fraction, call.network))]
    if exponents[0] < 0:
        x = yield from truncated(party, (yield from divided(party, np.ones(()), x)))
    one = trivial(party.index, np.ones(x.shape), x.format)
    powers = {0: one, 1: x}
    for step in _needed(exponents):
        product = multiply(party, powers[step // 2], powers[step - step // 2])
        powers[step] = yield from truncated(party, product)
    result = powers[abs(int(exponents[0]))].broadcast_to(call.outputs[0].shape)
    for value in exponents[1:]:
        result = chosen(exponent == value, powers[int(value)], result)
    return [result]
