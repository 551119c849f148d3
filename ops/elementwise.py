"""Sums, differences and products, element by element with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.ring.words import encode
from onnxpuma.ops.beside import factor, held, in_words, of_scaled, of_sum, too_far, whole
from onnxpuma.ops.limits import Limit, output_below
from onnxpuma.ops.registry import FRACTION, Call, Result, Use, Value, both_fine, operator
from onnxpuma.standard.mask_values import FAR

_LARGEST_WHOLE = 2.0**12
_LIMIT = 2.0**43  # |x| * 2^18 stays below 2^62


def _sum_result(call: Call) -> Result:
    """A sum with an untruncated product stays untruncated, at the larger scale."""
    fraction = max(o.fraction for o in call.secrets)
    if any(o.form is Sum3 for o in call.secrets):
        return Result(Sum3, fraction)
    return Result(Replicated, fraction)


def public_fits(call: Call) -> str | None:
    """Refuse public numbers that are none."""
    for operand in call.inputs:
        values = None if operand is None else operand.value
        if operand is not None and values is not None and values.dtype.kind == "f" and np.isnan(values).any():
            return f"its public input '{operand.name}' holds NaN"
    return None


def _product_fits(call: Call) -> str | None:
    """Refuse public factors that are none, and a factor that what stands beside it takes out of range."""
    for place in (0, 1):
        values = call.public(place)
        if values is not None and values.dtype.kind == "f" and np.isinf(values).any():
            return (
                f"its public input '{call.given(place).name}' holds infinity, which times zero is no number"
            )
    return (too_far(call, FAR) if call.secret(0) and call.secret(1) else None) or public_fits(call)


def aligned(value: Replicated | Sum3, fraction: int) -> Replicated | Sum3:
    """The same value at more fraction bits, in the same ring."""
    shift = fraction - value.fraction
    if shift == 0:
        return value
    return value.times(np.uint64(1 << shift), shift)


def add_forms(a: Value, b: Value, sign: int, party: Party) -> Form:
    """a + b or a - b of secret and public operands, at the larger scale."""
    secrets = [v for v in (a, b) if isinstance(v, (Replicated, Sum3))]
    fraction = max(v.fraction for v in secrets)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        (secret,) = secrets
        public = np.asarray(b if isinstance(b, np.ndarray) else a)
        words = encode(public, fraction)
        if isinstance(b, np.ndarray):
            return secret.plus(words if sign > 0 else np.uint64(0) - words)
        return secret.plus(words) if sign > 0 else (-secret).plus(words)
    left, right = aligned(secrets[0], fraction), aligned(secrets[1], fraction)
    if isinstance(left, Sum3) and isinstance(right, Sum3):
        return left + right if sign > 0 else left - right
    if isinstance(left, Sum3):
        assert isinstance(right, Replicated)
        return left.plus_shared(right, sign)
    if isinstance(right, Sum3):
        return (right if sign > 0 else -right).plus_shared(left, 1)
    return left + right if sign > 0 else left - right


def _takes_as_it_is(call: Use, index: int) -> bool:
    """Whether a term may come untruncated: a mask that is secret has to fit in at its scale."""
    reach = sum(o.reach for o in call.inputs if o is not None)
    return reach < 2.0 ** (61 - call.given(index).fraction)


def _spread_out(call: Call, x: Form) -> Form:
    """x in the output's shape, to which a term that stands beside it may have broadcast it."""
    shape = call.outputs[0].shape
    return x if x.shape == shape else x.map(lambda w: np.broadcast_to(w, shape))  # type: ignore[attr-defined]


@operator("Add", result=_sum_result, defers=_takes_as_it_is, refuse=public_fits, beside=of_sum)
def add(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a + b: local, also on a product that is still to be truncated."""
    yield from ()
    return [_spread_out(call, add_forms(in_words(a), in_words(b), 1, party))]


@operator("Sub", result=_sum_result, defers=_takes_as_it_is, refuse=public_fits, beside=of_sum)
def sub(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a - b: local, also on a product that is still to be truncated."""
    yield from ()
    return [_spread_out(call, add_forms(in_words(a), in_words(b), -1, party))]


@operator("Sum", result=_sum_result, defers=_takes_as_it_is, refuse=public_fits, beside=of_sum)
def total(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """The sum of any number of values."""
    result: Value = in_words(values[0])
    for value in map(in_words, values[1:]):
        if isinstance(result, np.ndarray) and isinstance(value, np.ndarray):
            result = result + value
        else:
            result = add_forms(result, value, 1, party)
    yield from ()
    assert isinstance(result, Form)
    return [_spread_out(call, result)]


def _same_result(call: Call) -> Result:
    return Result(call.secrets[0].form, call.secrets[0].fraction)


@operator("Neg", result=_same_result, defers=(0,), beside=of_sum)
def neg(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """-x: local."""
    yield from ()
    return [-x]


def public_scale(values: np.ndarray) -> tuple[int, np.ndarray]:
    """(fraction bits, integers) of a public factor: as few bits as hold it exactly, else 18 significant.

    A factor that is a power of two (or an integer) costs no precision and may cost no truncation.
    """
    real = np.asarray(values, np.float64)
    for fraction in range(FRACTION):
        scaled = real * 2.0**fraction
        if np.array_equal(scaled, np.rint(scaled)):
            return fraction, scaled.astype(np.int64)
    largest = float(np.abs(real).max())
    fraction = FRACTION + min(16, max(0, -math.floor(math.log2(largest))))
    return fraction, np.rint(real * 2.0**fraction).astype(np.int64)


def as_words(integers: np.ndarray) -> np.ndarray:
    """Integers mod 2^64."""
    return np.asarray(integers, np.int64).reshape(-1).view(np.uint64).reshape(np.shape(integers))


def _product_result(call: Call) -> Result:
    a, b = call.given(0), call.given(1)
    if a.secret and b.secret:
        return Result(Sum3, a.fraction + b.fraction)
    secret, public = (a, b) if a.secret else (b, a)
    return Result(secret.form, secret.fraction + public_scale(factor(call, public.value))[0])  # type: ignore[arg-type]


def _by_whole_number(call: Use, index: int) -> bool:
    """Whether a product may stay untruncated: times a whole number it has no more fraction bits."""
    by = call.public(1 - index)
    if by is None or by.size != 1:
        return False
    return abs(float(by.reshape(()))) <= _LARGEST_WHOLE and public_scale(held(by))[0] == 0


def _product_limits(call: Call) -> tuple[Limit, ...]:
    """Of a public factor of few bits the product has as many more in front."""
    if call.secret(0) and call.secret(1):
        return output_below(2.0**26)(call)
    return output_below(max(2.0**26, 2.0 ** (61 - _product_result(call).fraction)))(call)


@operator(
    "Mul",
    result=_product_result,
    defers=_by_whole_number,
    refuse=_product_fits,
    limits=_product_limits,
    error="one unit of 2^-18",
    beside=of_scaled,
    fine=both_fine,
)
def mul(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a * b: local; the product is truncated where its consumer wants it."""
    yield from ()
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        a, b = whole(a, call.given(0)), whole(b, call.given(1))
        return [multiply(party, a, b)]  # type: ignore[arg-type]
    secret, public = (b, a) if isinstance(a, np.ndarray) else (a, b)
    assert isinstance(secret, (Replicated, Sum3))
    fraction, integers = public_scale(factor(call, np.asarray(public)))
    return [secret.times(as_words(integers), fraction)]
