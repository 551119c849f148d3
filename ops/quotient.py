"""Reciprocals, roots, and quotients by a secret.

Each element is brought to a fixed window by a power of four (mpc/normalise.py), at 1.5 to 2.3 KB an element:
made for one value a row, affordable where a model divides element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.mpc.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.reciprocal import RECIPROCAL_RANGE, inverse_cost, reciprocal, rsqrt
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.square_root import square_root as rooted
from onnxpuma.mpc.square_root import square_root_cost
from onnxpuma.mpc.truncate import resolve_cost
from onnxpuma.ops.beside import FAR, Beside, of_scaled, too_far, whole
from onnxpuma.ops.elementwise import as_words, public_fits, public_scale
from onnxpuma.ops.limits import Limit, asks, both, of_input, of_output, result_size, signed_input, size_of
from onnxpuma.ops.logic import bits_cost, bits_of
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator
from onnxpuma.ops.sight import seen
from onnxpuma.ops.spread import over_parts, spread, truncated

ROOT_RANGE = (1, 23)  # digits of base four: x from one unit to 2^46 units, which is 2^28
QUOTIENT_FRACTION = 24  # of the reciprocal that a product follows


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


def resolved_reciprocal_cost(size: int, fraction: int) -> Cost:
    return signed_reciprocal_cost(size, fraction) + over_parts(size, lambda n: resolve_cost(n, 0))


def _reciprocal_cost(call: Call) -> Cost:
    return signed_reciprocal_cost(call.given(0).size, FRACTION)


def _term(call: Call) -> Result:
    return Result(Sum3, FRACTION)


def divisor_limit(place: int) -> Limit:
    return Limit(
        "|x|" if place == 0 else "|divisor|",
        of_input(place),
        2.0**15,
        2.0**-18,
        stays=size_of(place),
        needs=both(asks("element", 2.0**15, place), asks("nonzero", 2.0**-18, place)),
        falls=_distance(place),
    )


def _distance(place: int) -> Callable[[Call], float]:
    """From zero."""

    def falls(call: Call) -> float:
        x = seen(call.operand(place))
        return max(x.low, -x.high, 0.0)

    return falls


@operator(
    "Reciprocal",
    cost=_reciprocal_cost,
    result=_term,
    limits=lambda call: (divisor_limit(0),),
    error="2e-6 of the result and two units of 2^-18",
)
def reciprocal_of(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """1 / x; 1 / 0 is some number."""
    return [(yield from signed_reciprocal(party, x, FRACTION))]


def inverse_root_cost(size: int, fraction: int) -> Cost:
    return over_parts(
        size, lambda n: inverse_cost("rsqrt", n, ROOT_RANGE, FRACTION, fraction, form=Replicated)
    )


def inverse_root(party: Party, x: Replicated, fraction: int) -> Protocol[Replicated]:
    """1 / sqrt(x) of a positive x with `fraction` fraction bits."""
    return (yield from spread(party, x, lambda part, pivot: rsqrt(party, part, pivot, fraction, ROOT_RANGE)))


def root(party: Party, x: Replicated | Sum3) -> Protocol[Replicated]:
    """sqrt(x) of x >= 0."""
    return (yield from spread(party, x, lambda part, pivot: rooted(party, part, pivot, FRACTION)))


def root_cost(size: int, source: int = FRACTION, form: type = Replicated) -> Cost:
    return over_parts(size, lambda n: square_root_cost(n, source, FRACTION, form=form))


def root_limits(call: Call) -> tuple[Limit, ...]:
    below = 2.0 ** (61 - max([FRACTION, *(o.fraction for o in call.secrets)]))
    return (Limit("x", signed_input(), below, stays=size_of(), needs=asks("element", below)),)


def even_scale(call: Call, index: int) -> bool:
    """Whether an operand may arrive untruncated where a root is taken of it."""
    return index == 0 and call.given(0).fraction % 2 == 0


@operator(
    "Sqrt",
    cost=lambda call: root_cost(call.given(0).size, call.given(0).fraction, call.given(0).form),
    defers=even_scale,
    limits=root_limits,
    error="2e-6 of the result, one unit of 2^-18, and of x as far as it is truncated",
)
def square_root(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """sqrt(x); of a negative number it is some number."""
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
    return resolved_reciprocal_cost(divisor.size, fraction)


def _divisible(call: Call) -> str | None:
    divisor = call.public(1)
    if divisor is not None and np.any(divisor == 0):
        return f"its divisor '{call.node.inputs[1]}' holds a zero"
    return (too_far(call, FAR) if divisor is None else None) or public_fits(call)


def _div_beside(call: Call) -> Beside:
    return of_scaled(call) if call.secret(0) and not call.secret(1) else [None]


def _div_limits(call: Call) -> tuple[Limit, ...]:
    quotient = Limit("|result|", of_output(), 2.0**20, stays=result_size)
    return (divisor_limit(1), quotient) if not call.inputs or call.secret(1) else ()


@operator(
    "Div",
    cost=_quotient_cost,
    result=_quotient_result,
    refuse=_divisible,
    limits=_div_limits,
    error="one unit of 2^-18; by a secret 2e-6 of the result and 1e-7 of the dividend more",
    beside=_div_beside,
)
def div(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a / b: a product with 1 / b, which is local for a public b; a secret b as in Reciprocal."""
    if isinstance(b, np.ndarray):
        assert isinstance(a, Replicated)
        fraction, integers = public_scale(1.0 / b.astype(np.float64))
        return [a.times(as_words(integers), fraction)]
    a, b = whole(a, call.given(0)), whole(b, call.given(1))
    assert isinstance(b, Replicated)
    if isinstance(a, Replicated):
        term = yield from signed_reciprocal(party, b, QUOTIENT_FRACTION)
        return [multiply(party, a, (yield from truncated(party, term, QUOTIENT_FRACTION)))]
    assert isinstance(a, np.ndarray)
    term = yield from signed_reciprocal(party, b, FRACTION)
    fraction, integers = public_scale(a)
    return [(yield from truncated(party, term)).times(as_words(integers), fraction)]
