"""Sums, differences and products, element by element with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.beside import factor, held, in_words, of_scaled, of_sum, too_far, whole
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import Limit, output_below
from onnxpuma.ops.registry import Call, Operand, Resolved, Result, Use, Value, both_fine, operator
from onnxpuma.ops.shares import in_one_ring, secret
from onnxpuma.ops.term_factor import place_of_terms, term_product, term_product_cost
from onnxpuma.standard.mask_values import FAR

_LARGEST_WHOLE = 2.0**12


def _sum_result(call: Call) -> Result:
    """A sum with an untruncated product stays untruncated, at the larger scale."""
    fraction = max(o.fraction for o in call.secrets)
    form: type = Sum3 if any(o.form is Sum3 for o in call.secrets) else Replicated
    return Result(form, Format(min(_raised(o, fraction) for o in call.secrets), fraction))


def _raised(x: Operand | Shares, fraction: int) -> int:
    """The bits of a term's ring at more fraction bits: the ring of a Replicated value grows with them."""
    form = x.form if isinstance(x, Operand) else type(x)
    return x.format.bits if form is Sum3 else min(RESTING.bits, x.format.bits + fraction - x.fraction)


def _accepts(call: Call, index: int) -> Format | None:
    """A term is read in the ring of the sum, less the bits by which it is raised."""
    x, made = call.given(index), call.outputs[0].format
    if not x.secret:
        return None
    raised = 0 if x.form is Sum3 else made.fraction - x.fraction
    return Format(made.bits - raised, x.fraction)


def public_fits(call: Call) -> str | None:
    """Refuse a public NaN."""
    for operand in call.inputs:
        values = None if operand is None else operand.value
        if operand is not None and values is not None and values.dtype.kind == "f" and np.isnan(values).any():
            return f"its public input '{operand.name}' holds NaN"
    return None


def _product_fits(call: Call) -> str | None:
    """Refuse a factor that is NaN or infinite, or that public numbers beside it take out of range."""
    for place in (0, 1):
        values = call.public(place)
        if values is not None and values.dtype.kind == "f" and np.isinf(values).any():
            name = call.given(place).name
            return f"its public input '{name}' holds infinity, which times zero is not a number"
    return (too_far(call, FAR) if call.secret(0) and call.secret(1) else None) or public_fits(call)


@overload
def add_forms(a: Resolved, b: Resolved, sign: int) -> Replicated: ...
@overload
def add_forms(a: Value, b: Value, sign: int) -> Shares: ...
def add_forms(a: Value, b: Value, sign: int) -> Shares:
    """a + b or a - b at the larger scale; at least one operand is secret."""
    if isinstance(b, np.ndarray):
        return secret(a).plus_numbers(b if sign > 0 else -b.astype(np.float64))
    if isinstance(a, np.ndarray):
        term = secret(b) if sign > 0 else -secret(b)
        return term.plus_numbers(a)
    one, other = secret(a), secret(b)
    made = max(one.fraction, other.fraction)
    made_in = Format(min(_raised(one, made), _raised(other, made)), made)
    left, right = _term(one, made_in), _term(other, made_in)
    if isinstance(left, Replicated) and isinstance(right, Replicated):
        return left + right if sign > 0 else left - right
    if isinstance(right, Replicated):
        return left.as_sum().plus_shared(right, sign)
    right = right if sign > 0 else -right
    return right.plus_shared(left) if isinstance(left, Replicated) else left + right


def _term(x: Shares, format: Format) -> Shares:
    """x at more fraction bits, in the ring of a sum."""
    if isinstance(x, Replicated) and x.bits < format.bits:
        x = x.raised(format.bits - x.bits)
    return (x if x.bits == format.bits else x.modulo(format.bits)).aligned(format.fraction)


def _takes_as_it_is(call: Use, index: int) -> bool:
    """Whether a term may arrive untruncated: a secret mask must fit at its scale."""
    reach = sum(o.reach for o in call.inputs if o is not None)
    return reach < call.given(index).format.largest / 2


def _spread_out(call: Call, x: Shares) -> Shares:
    """x in the output's shape: a term that went beside it may have broadcast it."""
    shape = call.outputs[0].shape
    return x if x.shape == shape else x.broadcast_to(shape)


def _sum_limits(call: Call) -> tuple[Limit, ...]:
    """Words of all bits hold any sum of values in range; in a narrower ring, the sum must stay in range."""
    return output_below(call.reals.largest / 2)(call) if call.ring < RESTING.bits else ()


@operator(
    "Add",
    result=_sum_result,
    defers=_takes_as_it_is,
    accepts=_accepts,
    refuse=public_fits,
    beside=of_sum,
    limits=_sum_limits,
    narrow=True,
)
def add(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a + b: local, even on an untruncated product."""
    yield from ()
    return [_spread_out(call, add_forms(in_words(a), in_words(b), 1))]


@operator(
    "Sub",
    result=_sum_result,
    defers=_takes_as_it_is,
    accepts=_accepts,
    refuse=public_fits,
    beside=of_sum,
    limits=_sum_limits,
    narrow=True,
)
def sub(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a - b: local, even on an untruncated product."""
    yield from ()
    return [_spread_out(call, add_forms(in_words(a), in_words(b), -1))]


@operator(
    "Sum",
    result=_sum_result,
    defers=_takes_as_it_is,
    accepts=_accepts,
    refuse=public_fits,
    beside=of_sum,
    limits=_sum_limits,
    narrow=True,
)
def total(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """The sum of any number of values."""
    result: Value = in_words(values[0])
    for value in map(in_words, values[1:]):
        if isinstance(result, np.ndarray) and isinstance(value, np.ndarray):
            result = result + value
        else:
            result = add_forms(result, value, 1)
    yield from ()
    return [_spread_out(call, secret(result))]


def _same_result(call: Call) -> Result:
    return Result(call.secrets[0].form, call.secrets[0].format)


@operator("Neg", result=_same_result, defers=(0,), beside=of_sum, narrow=True)
def neg(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """-x: local."""
    yield from ()
    return [-x]


def _product_result(call: Call) -> Result:
    a, b = call.given(0), call.given(1)
    if place_of_terms(call) is not None:
        return Result()
    if a.secret and b.secret:
        return Result(Sum3, call.product_of(0, 1))
    secret, public = (a, b) if a.secret else (b, a)
    return Result(secret.form, secret.format.finer(factor_bits(factor(call, np.asarray(public.value)))))


def _product_cost(call: Call) -> Cost:
    return FREE if place_of_terms(call) is None else term_product_cost(call)


def _factor_accepts(call: Call, index: int) -> Format | None:
    """A factor is read in the ring of the product."""
    return call.outputs[0].format.at(call.given(index).fraction) if call.secret(index) else None


def _by_whole_number(call: Use, index: int) -> bool:
    """Whether a product may arrive untruncated: a whole factor adds no fraction bits."""
    by = call.public(1 - index)
    if by is None or by.size != 1:
        return False
    return abs(float(by.reshape(()))) <= _LARGEST_WHOLE and factor_bits(held(by)) == 0


def _product_limits(call: Call) -> tuple[Limit, ...]:
    """A product with a public factor of few fraction bits has more room above the point."""
    if call.secret(0) and call.secret(1):
        return output_below(call.product.largest)(call)
    made = _product_result(call).format or call.reals
    return output_below(max(call.product.largest, made.largest / 2))(call)


@operator(
    "Mul",
    cost=_product_cost,
    result=_product_result,
    accepts=_factor_accepts,
    defers=_by_whole_number,
    refuse=_product_fits,
    limits=_product_limits,
    error="one unit of 2^-18",
    beside=of_scaled,
    fine=both_fine,
    narrow=True,
)
def mul(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a * b: local, truncated if its reader asks for that; with an activation as terms, 2 or 3 rounds."""
    if place_of_terms(call) is not None:
        return [(yield from term_product(party, call, secret(a), secret(b)))]
    yield from ()
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        factors = in_one_ring(whole(a, call.given(0)), whole(b, call.given(1)))
        return [multiply(party, *factors)]
    x, public = (b, a) if isinstance(a, np.ndarray) else (a, b)
    return [times_numbers(secret(x), factor(call, np.asarray(public)))]
