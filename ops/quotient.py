"""Reciprocals, roots, and quotients by a secret.

A power of four brings each element into a fixed window (power_of_four.py), at 1 to 1.7 KB an element: cheap
for one value a row, affordable where a model divides element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.pivots import over_parts, spread, spread_all
from onnxpuma.mpc.protocols.reciprocal import (
    WINDOW_FRACTION,
    WINDOW_RANGE,
    inverse_cost,
    rsqrt,
    window_reciprocal,
    window_reciprocal_cost,
)
from onnxpuma.mpc.protocols.square_root import square_root as rooted
from onnxpuma.mpc.protocols.square_root import square_root_cost
from onnxpuma.mpc.protocols.times_power import Way, fastest
from onnxpuma.ops.beside import Beside, of_scaled, too_far, whole
from onnxpuma.ops.elementwise import public_fits
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import (
    Limit,
    asks,
    both,
    of_input,
    of_output,
    output_below,
    result_size,
    signed_input,
    size_of,
)
from onnxpuma.ops.logic import bits_cost, bits_of
from onnxpuma.ops.public_quotient import divided_cost, divided_publicly, is_plain, scales_of
from onnxpuma.ops.registry import Call, Resolved, Result, Use, operator
from onnxpuma.ops.shares import replicated
from onnxpuma.ops.sight import seen
from onnxpuma.ops.spread import shift_cost, truncated
from onnxpuma.standard.fixed_point import FIVE_BITS
from onnxpuma.standard.mask_values import FAR

ROOT_RANGE = (1, 23)  # digits of base four: x from one unit to 2^46 units, which is 2^28
SCALED_FRACTION = 20  # fraction bits of a dividend times the power of its divisor
QUOTIENT_FRACTION = SCALED_FRACTION + WINDOW_FRACTION
LARGEST = RESTING.unit * 4.0 ** WINDOW_RANGE[1]  # a divisor stays below this


def _flipped(party: Party, x: Replicated, negative: Replicated) -> Sum3:
    """x - 2 [negative] x."""
    return -(multiply(party, x, negative + negative).plus_shared(x, -1))


def quotient_cost(size: int, divisors: int, secret: bool) -> Cost:
    """The cost of `divided`: `size` quotients by that many divisors, of secret or public dividends."""
    total = bits_cost(divisors, wide_negative_cost)
    if secret:
        total = total + shift_cost(size, 0, RESTING.bits)
    total = total + over_parts(divisors, window_reciprocal_cost)
    return total + shift_cost(size, 2 * WINDOW_RANGE[1] - SCALED_FRACTION, RESTING.bits)


def _windows(party: Party, x: Sum3) -> Protocol[tuple[Replicated, Replicated]]:
    """Both results of `window_reciprocal`, spread over the pivots."""

    def each(parts: Sequence[Sum3], pivot: int) -> Protocol[Sequence[Replicated]]:
        return window_reciprocal(party, parts[0], pivot)

    inverse, power = yield from spread_all(party, [x], each)
    return inverse, power


def divided(party: Party, a: Resolved, b: Replicated) -> Protocol[Sum3]:
    """a / b, broadcasting, for |b| < LARGEST and a public or secret a; a takes the sign of b."""
    # 1. |b|, and a with the sign of b
    negative = yield from bits_of(party, b, wide_negative)
    sign = (-(negative + negative)).plus_numbers(1.0)
    if isinstance(a, np.ndarray):
        signed = sign.times_integers(np.rint(a.astype(np.float64) / RESTING.unit), RESTING.fraction)
    else:
        signed = yield from truncated(party, multiply(party, a, sign))
    # 2. b in its window, and the power of four that brought it there
    inverse, power = yield from _windows(party, _flipped(party, b, negative))
    # 3. a times the power, times the reciprocal
    scale = 2 * WINDOW_RANGE[1]
    scaled = multiply(party, signed, power).with_fraction(scale)
    return multiply(party, (yield from truncated(party, scaled, scaled.format.at(SCALED_FRACTION))), inverse)


def divisor_limit(place: int) -> Limit:
    return Limit(
        "|x|" if place == 0 else "|divisor|",
        of_input(place),
        LARGEST,
        FIVE_BITS,
        stays=size_of(place),
        needs=both(asks("element", LARGEST, place), asks("nonzero", FIVE_BITS, place)),
        falls=distance(place),
    )


def distance(place: int) -> Callable[[Call], float]:
    """The least distance of an input from zero, by its bound."""

    def falls(call: Call) -> float:
        x = seen(call.operand(place))
        return max(x.low, -x.high, 0.0)

    return falls


@operator(
    "Reciprocal",
    cost=lambda call: quotient_cost(call.given(0).size, call.given(0).size, False),
    result=lambda call: Result(Sum3, call.at(QUOTIENT_FRACTION)),
    limits=lambda call: (divisor_limit(0),),
    error="4e-6 of the result and three units of 2^-18",
)
def reciprocal_of(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """1 / x; 1 / 0 gives an arbitrary number."""
    return [(yield from divided(party, np.ones(()), x))]


def _inverse_root_cost(size: int, x: Format, fraction: int, way: Way) -> Cost:
    return over_parts(
        size,
        lambda n: inverse_cost("rsqrt", n, ROOT_RANGE, x.fraction, x.at(fraction), form=Replicated, way=way),
    )


def inverse_root_cost(size: int, x: Format, fraction: int, network: Network) -> Cost:
    """x: the format of the operand."""
    way = fastest(network, lambda way: _inverse_root_cost(size, x, fraction, way))
    return _inverse_root_cost(size, x, fraction, way)


def inverse_root(party: Party, x: Replicated, fraction: int, network: Network) -> Protocol[Replicated]:
    """1 / sqrt(x) of a positive x with `fraction` fraction bits."""
    made = x.format.at(fraction)
    way = fastest(network, lambda way: _inverse_root_cost(x.size, x.format, fraction, way))

    def each(part: Replicated, pivot: int) -> Protocol[Replicated]:
        return rsqrt(party, part, pivot, made, ROOT_RANGE, way=way)

    return (yield from spread(party, x, each))


def root(party: Party, x: Replicated | Sum3, network: Network) -> Protocol[Replicated]:
    """sqrt(x) of x >= 0."""
    made, form = x.format.at(RESTING.fraction), type(x)
    way = fastest(network, lambda way: _root_cost(x.size, x.fraction, form, way))
    return (yield from spread(party, x, lambda part, pivot: rooted(party, part, pivot, made, way=way)))


def _root_cost(size: int, source: int, form: type, way: Way) -> Cost:
    return over_parts(size, lambda n: square_root_cost(n, source, RESTING, form=form, way=way))


def root_cost(size: int, network: Network, source: int = RESTING.fraction, form: type = Replicated) -> Cost:
    return _root_cost(size, source, form, fastest(network, lambda way: _root_cost(size, source, form, way)))


def root_limits(call: Call) -> tuple[Limit, ...]:
    below = min(o.format.largest for o in (*call.secrets, *call.outputs)) / 2
    return (Limit("x", signed_input(), below, stays=size_of(), needs=asks("element", below)),)


def even_scale(call: Use, index: int) -> bool:
    """Whether the operand of a root may arrive untruncated."""
    return index == 0 and call.given(0).fraction % 2 == 0


@operator(
    "Sqrt",
    cost=lambda call: root_cost(call.given(0).size, call.network, call.given(0).fraction, call.given(0).form),
    defers=even_scale,
    limits=root_limits,
    error="2e-6 of the result, one unit of 2^-18, and one of x where x is truncated",
)
def square_root(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """sqrt(x); a negative number gives an arbitrary one."""
    return [(yield from root(party, x, call.network))]


def _quotient_result(call: Call) -> Result:
    divisor = call.public(1)
    if divisor is not None and not is_plain(divisor):
        return Result()
    if divisor is not None:
        return Result(
            Replicated, call.at(call.reals.fraction + factor_bits(1.0 / divisor.astype(np.float64)))
        )
    return Result(Sum3, call.at(QUOTIENT_FRACTION))


def _quotient_cost(call: Call) -> Cost:
    divisor = call.given(1)
    if divisor.value is not None:
        plain = is_plain(divisor.value)
        return Cost() if plain else divided_cost(scales_of(divisor.value, call.outputs[0].shape))
    return quotient_cost(call.outputs[0].size, divisor.size, call.secret(0))


def _divisible(call: Call) -> str | None:
    divisor = call.public(1)
    if divisor is not None and np.any(divisor == 0):
        return f"its divisor '{call.node.inputs[1]}' holds a zero"
    return (too_far(call, FAR) if divisor is None else None) or public_fits(call)


def _div_beside(call: Call) -> Beside:
    return of_scaled(call) if call.secret(0) and not call.secret(1) else [None]


def _div_limits(call: Call) -> tuple[Limit, ...]:
    (quotient,) = output_below(2.0**19)(call)
    if not call.inputs or call.secret(1):
        return divisor_limit(1), quotient
    divisor = call.public(1)
    if divisor is None or is_plain(divisor):
        return ()
    largest = scales_of(divisor, call.outputs[0].shape).largest
    return (Limit("|result|", of_output(), largest, stays=result_size),)


@operator(
    "Div",
    cost=_quotient_cost,
    result=_quotient_result,
    refuse=_divisible,
    limits=_div_limits,
    error="one unit of 2^-18; by public numbers of many sizes 8e-6 of the result more; by a secret three "
    "units and 4e-6 of the result",
    beside=_div_beside,
)
def div(party: Party, call: Call, a: Resolved, b: Resolved) -> Protocol[Sequence[Form]]:
    """a / b: for a public b a local product with 1 / b, truncated element by element if the sizes of b differ
    much; for a secret b as in Reciprocal."""
    if isinstance(b, np.ndarray):
        if not is_plain(b):
            shape = call.outputs[0].shape
            stretched = replicated(a).broadcast_to(shape)
            return [(yield from divided_publicly(party, stretched, scales_of(b, shape)))]
        return [times_numbers(replicated(a), 1.0 / b.astype(np.float64))]
    return [(yield from divided(party, whole(a, call.given(0)), whole(b, call.given(1))))]
