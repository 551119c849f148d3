"""Reciprocals, roots, quotients by a secret, and powers with a public exponent.

Each element is brought to a fixed window by a power of four (mpc/normalise.py), at some 4 KB an element:
made for one value a row, affordable where a model divides element by element.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.reciprocal import RECIPROCAL_RANGE, WHOLE_RANGE, inverse_cost, reciprocal, rsqrt
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import resolve_cost
from onnxpuma.mpc.wide import wide_negative, wide_negative_cost
from onnxpuma.ops.elementwise import as_words, public_fits, public_scale
from onnxpuma.ops.logic import bits_cost, bits_of
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator
from onnxpuma.ops.spread import over_parts, spread, truncated

QUOTIENT_FRACTION = 24  # of the reciprocal that a product follows
ROOT_FRACTION = 28


def signed_reciprocal(party: Party, x: Replicated, fraction: int) -> Protocol[Replicated | Sum3]:
    """1 / x of either sign, 2^-18 <= |x| < 2^15, `fraction` fraction bits: sign, magnitude, sign again."""
    negative = yield from bits_of(party, x, wide_negative)
    magnitude = _flipped(party, x, negative)
    inverse = yield from spread(
        party, magnitude, lambda part, pivot: reciprocal(party, part, pivot, fraction, RECIPROCAL_RANGE)
    )
    return _flipped(party, inverse, negative)


def _flipped(party: Party, x: Replicated, negative: Replicated) -> Sum3:
    """x - 2 [negative] x."""
    return -(multiply(party, x, negative + negative).plus_shared(x, -1))


def signed_reciprocal_cost(size: int, fraction: int) -> Cost:
    return bits_cost(size, wide_negative_cost) + over_parts(
        size, lambda n: inverse_cost("reciprocal", n, RECIPROCAL_RANGE, FRACTION, fraction)
    )


def _resolved_reciprocal_cost(size: int, fraction: int) -> Cost:
    return signed_reciprocal_cost(size, fraction) + over_parts(size, lambda n: resolve_cost(n, 0))


def _reciprocal_cost(call: Call) -> Cost:
    return signed_reciprocal_cost(call.given(0).size, FRACTION)


def _term(call: Call) -> Result:
    return Result(Sum3, FRACTION)


@operator(
    "Reciprocal", cost=_reciprocal_cost, result=_term, error="2e-6 of the result and two units of 2^-18"
)
def reciprocal_of(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """1 / x for 2^-18 <= |x| < 2^15; 1 / 0 is some number."""
    return [(yield from signed_reciprocal(party, x, FRACTION))]


def _root_cost(size: int, fraction: int) -> Cost:
    return over_parts(
        size, lambda n: inverse_cost("rsqrt", n, WHOLE_RANGE, FRACTION, fraction, form=Replicated)
    )


def inverse_root(party: Party, x: Replicated, fraction: int) -> Protocol[Replicated]:
    """1 / sqrt(x) of a positive x with `fraction` fraction bits."""
    return (yield from spread(party, x, lambda part, pivot: rsqrt(party, part, pivot, fraction, WHOLE_RANGE)))


def root(party: Party, x: Replicated) -> Protocol[Sum3]:
    """sqrt(x) = x / sqrt(x) of x in [0, 2^28), FRACTION + ROOT_FRACTION fraction bits; exact at zero."""
    inverse = yield from inverse_root(party, x, ROOT_FRACTION)
    return multiply(party, x, inverse)


def root_cost(size: int) -> Cost:
    return _root_cost(size, ROOT_FRACTION)


def _sqrt_result(call: Call) -> Result:
    return Result(Sum3, FRACTION + ROOT_FRACTION)


@operator(
    "Sqrt",
    cost=lambda call: root_cost(call.given(0).size),
    result=_sqrt_result,
    error="2e-6 of the result, 4e-9 of x, and one unit of 2^-18",
)
def square_root(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """sqrt(x) for 0 <= x < 2^28; of a negative number it is some number."""
    return [(yield from root(party, x))]


def _quotient_result(call: Call) -> Result:
    divisor = call.public(1)
    if divisor is not None:
        return Result(Replicated, FRACTION + public_scale(1.0 / divisor.astype(np.float64))[0])
    if call.secret(0):
        return Result(Sum3, FRACTION + QUOTIENT_FRACTION)
    return Result(Replicated, FRACTION + public_scale(call.public(0))[0])  # type: ignore[arg-type]


def _quotient_cost(call: Call) -> Cost:
    divisor = call.given(1)
    if not divisor.secret:
        return Cost()
    fraction = QUOTIENT_FRACTION if call.secret(0) else FRACTION
    return _resolved_reciprocal_cost(divisor.size, fraction)


def _divisible(call: Call) -> str | None:
    divisor = call.public(1)
    if divisor is not None and np.any(divisor == 0):
        return f"its divisor '{call.node.inputs[1]}' holds a zero"
    return public_fits(call)


@operator(
    "Div",
    cost=_quotient_cost,
    result=_quotient_result,
    refuse=_divisible,
    error="one unit of 2^-18; by a secret 2e-6 of the result and 1e-7 of the dividend more",
)
def div(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a / b: a product with 1 / b, which is local for a public b; a secret b as in Reciprocal."""
    if isinstance(b, np.ndarray):
        assert isinstance(a, Replicated)
        fraction, integers = public_scale(1.0 / b.astype(np.float64))
        return [a.times(as_words(integers), fraction)]
    assert isinstance(b, Replicated)
    if isinstance(a, Replicated):
        term = yield from signed_reciprocal(party, b, QUOTIENT_FRACTION)
        return [multiply(party, a, (yield from truncated(party, term, QUOTIENT_FRACTION)))]
    assert isinstance(a, np.ndarray)
    term = yield from signed_reciprocal(party, b, FRACTION)
    fraction, integers = public_scale(a)
    return [(yield from truncated(party, term)).times(as_words(integers), fraction)]


LARGEST_POWER = 16


def _exponents(call: Call) -> np.ndarray:
    values = call.public(1)
    assert values is not None
    return np.unique(values.astype(np.float64))


def _steps(highest: int) -> list[int]:
    """The powers to be made, in order, for x^highest by halving: 5 -> [2, 3, 5]."""
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


def _power_refusal(call: Call) -> str | None:
    if not call.secret(0) or call.public(1) is None:
        return "its exponent is secret"
    exponents = _exponents(call)
    if len(exponents) == 1 and abs(exponents[0]) == 0.5:
        return None
    whole = all(e == int(e) and abs(e) <= LARGEST_POWER for e in exponents)
    if not whole or (len(exponents) > 1 and exponents.min() < 0):
        return f"its exponent is not 0.5, -0.5, a whole number up to {LARGEST_POWER}, or several from 0 up"
    return None


def _truncation_cost(size: int) -> Cost:
    return over_parts(size, lambda n: resolve_cost(n, FRACTION))


def _power_cost(call: Call) -> Cost:
    exponents, size = _exponents(call), call.given(0).size
    if exponents[0] == 0.5:
        return root_cost(size) + over_parts(size, lambda n: resolve_cost(n, ROOT_FRACTION))
    if exponents[0] == -0.5:
        return _root_cost(size, FRACTION)
    total = Cost()
    for _ in _needed(exponents):
        total = total + _truncation_cost(size)
    if exponents[0] < 0:
        total = total + _resolved_reciprocal_cost(size, FRACTION)
    return total


@operator(
    "Pow",
    cost=_power_cost,
    refuse=_power_refusal,
    secret="first",
    tolerance=1e-3,
    error="one unit of 2^-18 at each product; roots and reciprocals as there",
)
def power(party: Party, call: Call, x: Replicated, exponent: np.ndarray) -> Protocol[Sequence[Form]]:
    """x^n for whole n by repeated products, and for -1, -0.5 and 0.5; every power below 2^26."""
    exponents = _exponents(call)
    if exponents[0] == 0.5:
        return [(yield from truncated(party, (yield from root(party, x))))]
    if exponents[0] == -0.5:
        return [(yield from inverse_root(party, x, FRACTION))]
    if exponents[0] < 0:
        x = yield from truncated(party, (yield from signed_reciprocal(party, x, FRACTION)))
    one = x.times(np.uint64(0)).plus(np.uint64(1 << FRACTION) * np.ones(x.shape, np.uint64))
    powers = {0: one, 1: x}
    for step in _needed(exponents):
        product = multiply(party, powers[step // 2], powers[step - step // 2])
        powers[step] = yield from truncated(party, product)
    result = powers[abs(int(exponents[0]))]
    shape = call.outputs[0].shape
    result = result.map(lambda w: np.broadcast_to(w, shape))
    for value in exponents[1:]:
        result = _where(exponent == value, powers[int(value)], result)
    return [result]


def _where(mask: np.ndarray, a: Replicated, b: Replicated) -> Replicated:
    first, second = np.where(mask, a.first, b.first), np.where(mask, a.second, b.second)
    return Replicated(a.party, first, second, a.bits, a.fraction)
