"""Sums, differences and products, element by element with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.linear import multiply
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.words import encode
from onnxpuma.ops.limits import output_below
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, both_fine, operator

_LIMIT = 2.0**43  # |x| * 2^18 stays below 2^62
MASKS_BELOW = -1e8  # an addend below it is a mask: it only has to be far below every score
MASKS_FROM = -1e4  # and so is one of nothing but zeros and numbers below this
MASKED = -400.0  # two of them and the scores stay inside what Softmax can tell apart


def _sum_result(call: Call) -> Result:
    """A sum with an untruncated product stays untruncated, at the larger scale."""
    fraction = max(o.fraction for o in call.secrets)
    if any(o.form is Sum3 for o in call.secrets):
        return Result(Sum3, fraction)
    return Result(Replicated, fraction)


def public_fits(call: Call) -> str | None:
    for place, operand in enumerate(call.inputs):
        if operand is not None and operand.value is not None and operand.value.dtype.kind == "f":
            values = operand.value
            if call.node.op in ("Add", "Sub", "Sum"):
                values = unmasked(-values if call.node.op == "Sub" and place else values)
            elif call.node.op == "Mul":
                values = factor(values)
            if np.isnan(values).any():
                return f"its public input '{operand.name}' holds NaN"
            if (np.abs(values) > _LIMIT).any():
                return f"its public input '{operand.name}' holds numbers beyond the fixed-point range"
    return None


def unmasked(values: np.ndarray) -> np.ndarray:
    """Public numbers with MASKED in place of minus infinity, the lowest float, -1e9."""
    if values.dtype.kind != "f":
        return values
    return np.where(values < MASKS_BELOW, MASKED, values.astype(np.float64))


def addend(value: Value) -> Value:
    """A public addend `unmasked`, and one of nothing but zeros and numbers from -10000 down as a mask too."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    low = value <= MASKS_FROM
    if low.any() and not low.all() and bool(np.all(low | (value == 0))):
        return np.where(low, MASKED, 0.0)
    return unmasked(value)


def factor(values: np.ndarray) -> np.ndarray:
    """A public factor; a number beyond 1e8 makes a mask, and is as large as a mask has to be."""
    if values.dtype.kind != "f":
        return values
    far = (np.abs(values) > -MASKS_BELOW) & np.isfinite(values)
    return np.where(far, np.sign(values) * -MASKED, values.astype(np.float64))


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


@operator("Add", result=_sum_result, defers=(0, 1), refuse=public_fits)
def add(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a + b: local, also on a product that is still to be truncated."""
    yield from ()
    return [add_forms(addend(a), addend(b), 1, party)]


@operator("Sub", result=_sum_result, defers=(0, 1), refuse=public_fits)
def sub(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a - b: local, also on a product that is still to be truncated."""
    yield from ()
    a = unmasked(a) if isinstance(a, np.ndarray) else a
    if isinstance(b, np.ndarray) and b.dtype.kind == "f":
        b = np.asarray(-unmasked(-b))
    return [add_forms(a, b, -1, party)]


@operator("Sum", result=_sum_result, defers=lambda call, index: True, refuse=public_fits)
def total(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """The sum of any number of values."""
    result: Value = addend(values[0])
    for value in map(addend, values[1:]):
        if isinstance(result, np.ndarray) and isinstance(value, np.ndarray):
            result = result + value
        else:
            result = add_forms(result, value, 1, party)
    yield from ()
    assert isinstance(result, Form)
    return [result]


def _same_result(call: Call) -> Result:
    return Result(call.secrets[0].form, call.secrets[0].fraction)


@operator("Neg", result=_same_result, defers=(0,))
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
    return Result(secret.form, secret.fraction + public_scale(factor(public.value))[0])  # type: ignore[arg-type]


@operator(
    "Mul",
    result=_product_result,
    refuse=public_fits,
    limits=output_below(2.0**26),
    error="one unit of 2^-18",
    fine=both_fine,
)
def mul(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a * b: local; the product is truncated where its consumer wants it."""
    yield from ()
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        return [multiply(party, a, b)]
    secret, public = (a, b) if isinstance(a, Replicated) else (b, a)
    assert isinstance(secret, Replicated)
    fraction, integers = public_scale(factor(np.asarray(public)))
    return [secret.times(as_words(integers), fraction)]
