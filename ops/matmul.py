"""Matrix products: local products of shares, which their readers truncate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import doubled_matmul
from onnxpuma.mpc.protocols.linear import matmul as product
from onnxpuma.ops.bias import product_cost, product_result, with_bias
from onnxpuma.ops.factors import factor_bits, public_scale, times_numbers
from onnxpuma.ops.narrow_factor import accepted, limits, product_format, read
from onnxpuma.ops.products import gemm_of
from onnxpuma.ops.registry import Call, Resolved, Result, Value, both_fine, operator
from onnxpuma.ops.shares import as_shares, in_one_ring, replicated


def _matmul_result(call: Call) -> Result:
    a, b = call.given(0), call.given(1)
    if a.secret and b.secret:
        return Result(Sum3, product_format(call))
    secret, public = (a, b) if a.secret else (b, a)
    return Result(Replicated, secret.format.finer(factor_bits(np.asarray(public.value))))


def as_product(call: Call, index: int) -> Format | None:
    """A factor is read in the ring of the product."""
    if index > 1 or not call.secret(index):
        return None
    return accepted(call, index)


def flat_rows(x: Replicated) -> Replicated:
    """(..., k) as (rows, k), contiguous: one large ring product instead of many."""
    return x.contiguous(-1, x.shape[-1])


def product_of(call: Call) -> Callable[[Party, Replicated, Replicated], Sum3]:
    """The protocol that multiplies the two factors of this call."""
    return doubled_matmul if any(call.given(place).doubled for place in (0, 1)) else product


def times_matrix(party: Party, call: Call, x: Replicated, y: Replicated) -> Sum3:
    """x @ y with numpy.matmul's rules; a plain matrix on the right takes all rows at once."""
    x, y = in_one_ring(x, y)
    if len(y.shape) == 2 and len(x.shape) > 2:
        rows = product_of(call)(party, flat_rows(x), y)
        shape = (*x.shape[:-1], y.shape[-1])
        return rows.reshape(shape)
    return product_of(call)(party, x, y)


@operator(
    "MatMul",
    result=_matmul_result,
    accepts=as_product,
    limits=limits,
    error="2^-18 after truncation",
    fine=both_fine,
    narrow=True,
)
def matmul(party: Party, call: Call, a: Resolved, b: Resolved) -> Protocol[Sequence[Form]]:
    """A @ B. Secret times secret: no message."""
    yield from ()
    if isinstance(a, np.ndarray):
        fraction, integers = public_scale(a)
        return [replicated(b).rmatmul(integers, fraction)]
    if isinstance(b, np.ndarray):
        fraction, integers = public_scale(b)
        return [a.matmul(integers, fraction)]
    return [times_matrix(party, call, read(call, 0, a), read(call, 1, b))]


def _alpha_bits(call: Call) -> int:
    alpha = gemm_of(call).alpha
    return 0 if alpha == 1.0 else factor_bits(alpha)


def _gemm_result(call: Call) -> Result:
    factors = product_format(call) if call.secret(0) and call.secret(1) else call.product_of(0, 1)
    return product_result(call, factors.finer(_alpha_bits(call)))


def _gemm_accepts(call: Call, index: int) -> Format | None:
    """As a product where nothing but the bias follows, and before the truncation."""
    plain = gemm_of(call).alpha == gemm_of(call).beta == 1.0 and call.outputs[0].deferred
    return as_product(call, index) if plain else None


def _gemm_fine(node: Node) -> Mapping[int, int]:
    """Both factors, less the bits that alpha shifts by if it is a power of two; else none."""
    mantissa, exponent = math.frexp(node.attribute("alpha"))
    if mantissa != 0.5 or exponent > 1 or node.attribute("beta") != 1.0:
        return {}
    return {place: most + exponent - 1 for place, most in both_fine(node).items()}


@operator(
    "Gemm",
    cost=lambda call: product_cost(call, _alpha_bits(call)),
    result=_gemm_result,
    accepts=_gemm_accepts,
    limits=limits,
    error="2^-18 after truncation",
    fine=_gemm_fine,
    narrow=True,
)
def gemm(party: Party, call: Call, left: Value, right: Value, c: Value = None) -> Protocol[Sequence[Form]]:
    """alpha A' B' + beta C, summed before the truncation; a public factor is shared trivially."""
    a, b = (as_shares(party, value, call.reals) for value in (left, right))
    a, b = read(call, 0, a), read(call, 1, b)
    gemm = gemm_of(call)
    if gemm.left_turned:
        a = a.transpose()
    if gemm.right_turned:
        b = b.transpose()
    result = product_of(call)(party, *in_one_ring(a, b))
    if gemm.alpha != 1.0:
        result = times_numbers(result, gemm.alpha)
    if c is not None and gemm.beta != 1.0:
        c = as_shares(party, c, call.reals).times_integers(
            round(gemm.beta * 2.0**call.reals.fraction), call.reals.fraction
        )
    return [(yield from with_bias(party, call, result, c))]
