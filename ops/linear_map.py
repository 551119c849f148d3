"""Linear maps with public coefficients, and bilinear ones: running sums and einsum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import bilinear
from onnxpuma.ops.factors import factor_bits, public_scale
from onnxpuma.ops.limits import output_in_product
from onnxpuma.ops.registry import Call, Resolved, Result, as_first, both_fine, operator
from onnxpuma.ops.shares import replicated

F = TypeVar("F", bound=Form)


def _running_refusal(call: Call) -> str | None:
    return "its axis is secret" if call.secret(1) else None


@operator(
    "CumSum",
    result=as_first,
    defers=lambda call, index: index == 0,
    refuse=_running_refusal,
    secret="first",
    integers=True,
)
def running_sum(party: Party, call: Call, x: F, axis: np.ndarray) -> Protocol[Sequence[Form]]:
    """Running sums: local."""
    place = int(axis.reshape(-1)[0])
    exclusive, backwards = call.attribute("exclusive"), call.attribute("reverse")

    back = (slice(None),) * (place % len(x.shape)) + (slice(None, None, -1),)
    turned = x[back] if backwards else x
    sums = turned.cumsum(place)
    if exclusive:
        sums = sums - turned
    yield from ()
    return [sums[back] if backwards else sums]


def _einsum_result(call: Call) -> Result:
    a, b = call.given(0), call.operand(1)
    if b is None:
        return Result(Replicated, call.at(a.fraction))
    if a.secret and b.secret:
        return Result(Sum3, call.at(a.fraction + b.fraction))
    secret, public = (a, b) if a.secret else (b, a)
    return Result(Replicated, call.at(secret.fraction + factor_bits(np.asarray(public.value))))


def _einsum_refusal(call: Call) -> str | None:
    return "it has more than two operands: split it into several" if len(call.inputs) > 2 else None


@operator(
    "Einsum",
    result=_einsum_result,
    refuse=_einsum_refusal,
    limits=output_in_product,
    error="one unit of 2^-18",
    fine=both_fine,
)
def einsum(party: Party, call: Call, a: Resolved, b: Resolved | None = None) -> Protocol[Sequence[Form]]:
    """Sums of products over named axes, of one or two operands."""
    equation = call.attribute("equation")

    product = partial(ring.einsum, equation)
    yield from ()
    if isinstance(a, np.ndarray):
        fraction, integers = public_scale(a)
        return [replicated(b).bilinear(product, integers, fraction)]
    if isinstance(b, np.ndarray):
        fraction, integers = public_scale(b)
        return [a.bilinear(lambda right, w: product(w, right), integers, fraction)]
    return [a.map(product) if b is None else bilinear(party, a, b, product)]
