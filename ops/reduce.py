"""Reductions by sums: local on shares, except for the product, root or logarithm that some need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3, joined
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply, sum_of_squares
from onnxpuma.mpc.protocols.pivots import over_parts, spread_all
from onnxpuma.mpc.protocols.square_root import wide_square_root, wide_square_root_cost
from onnxpuma.mpc.protocols.times_power import Way, fastest
from onnxpuma.mpc.protocols.wide_root import Readings
from onnxpuma.ops.exponential import log_cost, log_of
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import Limit, input_below, mean_limits, output_below, output_in_product
from onnxpuma.ops.registry import Call, Result, Use, Value, as_first, operator
from onnxpuma.ops.select import positive, positive_cost
from onnxpuma.ops.spread import shift_cost, truncated

F = TypeVar("F", bound=Form)


def axes_of(call: Use) -> tuple[int, ...]:
    """The reduced axes: from the input, else from the attribute, else all of them."""
    rank = len(call.given(0).shape)
    given = call.public(1) if call.present(1) else call.attribute("axes")
    if given is None or len(np.atleast_1d(given)) == 0:
        return () if call.attribute("noop_with_empty_axes") else tuple(range(rank))
    return tuple(sorted(int(a) % rank for a in np.atleast_1d(given)))


def count_of(call: Call) -> int:
    """The elements that are reduced to one."""
    return int(np.prod([call.given(0).shape[a] for a in axes_of(call)], dtype=np.int64))


def public_axes(call: Call) -> str | None:
    """Refuse secret axes."""
    return "its axes are secret" if call.secret(1) else None


def not_empty(call: Call) -> str | None:
    """Refuse secret axes, and a reduction of no elements that has no result."""
    return public_axes(call) or (None if count_of(call) else "it reduces nothing")


def _summed(call: Call, x: F) -> F:
    return x.sum(axes_of(call)).reshape(call.outputs[0].shape)


def _any_form(call: Use, index: int) -> bool:
    return index == 0


@operator("ReduceSum", result=as_first, defers=_any_form, refuse=public_axes, secret="first", integers=True)
def reduce_sum(party: Party, call: Call, x: Shares, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The sum over axes: local."""
    yield from ()
    return [_summed(call, x)]


def _mean_result(call: Call) -> Result:
    return Result(Replicated, call.at(call.secrets[0].fraction + factor_bits(1.0 / count_of(call))))


@operator(
    "ReduceMean",
    result=_mean_result,
    refuse=not_empty,
    limits=mean_limits,
    secret="first",
    error="one unit of 2^-18",
)
def reduce_mean(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The mean over axes."""
    yield from ()
    return [times_numbers(_summed(call, x), 1.0 / count_of(call))]


def _squares(party: Party, call: Call, x: Replicated) -> Sum3:
    return sum_of_squares(party, x, axes_of(call)).reshape(call.outputs[0].shape)


def _square_result(call: Call) -> Result:
    return Result(Sum3, call.at(2 * call.reals.fraction))


@operator(
    "ReduceSumSquare",
    result=_square_result,
    refuse=public_axes,
    limits=output_in_product,
    secret="first",
    error="one unit of 2^-18",
)
def reduce_square(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The sum of squares: one element a row leaves the party."""
    yield from ()
    return [_squares(party, call, x)]


SHIFT = 14  # fraction bits that a row drops so that a norm up to LONGEST fits
LONGEST = 2.0**20


def _norm_cost_by(call: Call, way: Way) -> Cost:
    readings = Readings(2 * call.reals.fraction, Format(call.ring - SHIFT, 2 * (call.reals.fraction - SHIFT)))
    made = call.reals
    return over_parts(call.outputs[0].size, lambda n: wide_square_root_cost(n, readings, made, way=way))


def _norm_way(call: Call) -> Way:
    return fastest(call.network, lambda way: _norm_cost_by(call, way))


def _norm_cost(call: Call) -> Cost:
    return _norm_cost_by(call, _norm_way(call))


@operator(
    "ReduceL2",
    cost=_norm_cost,
    refuse=not_empty,
    limits=output_below(LONGEST),
    secret="first",
    error="4e-6 of the result, above 4096 2e-5 of it; one unit of 2^-18",
)
def reduce_norm(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The root of the sum of squares."""
    way = _norm_way(call)

    def length(readings: Sequence[Sum3], pivot: int) -> Protocol[list[Replicated]]:
        fine, coarse = readings
        return [(yield from wide_square_root(party, fine, coarse, pivot, x.format, way=way))]

    readings = [_squares(party, call, v) for v in (x, x.lowered(SHIFT))]
    return (yield from spread_all(party, readings, length))


def _absolute_limits(call: Call) -> tuple[Limit, ...]:
    return (*input_below(call.reals.largest / 4)(call), *output_below(call.reals.largest / 2)(call))


def _absolute_cost(call: Call) -> Cost:
    return positive_cost(call.given(0).size) if call.given(0).size else Cost()


@operator("ReduceL1", cost=_absolute_cost, refuse=public_axes, limits=_absolute_limits, secret="first")
def reduce_absolute(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The sum of absolute values."""
    if not x.size:
        return [_summed(call, x)]
    part = yield from positive(party, x)
    return [_summed(call, part + part - x)]


def _halved(rows: Replicated) -> tuple[Replicated, Replicated, Replicated]:
    """Two halves of each row, and the last element of an odd one."""
    half = rows.shape[1] // 2
    return rows[:, :half], rows[:, half : 2 * half], rows[:, 2 * half :]


def _product_cost(call: Call) -> Cost:
    rows, length, total = call.outputs[0].size, count_of(call), Cost()
    while length > 1:
        half = length // 2
        total = total + shift_cost(rows * half, call.reals.fraction, call.ring)
        length -= half
    return total


@operator(
    "ReduceProd",
    cost=_product_cost,
    refuse=public_axes,
    limits=output_in_product,
    secret="first",
    tolerance=1e-3,
    error="one unit of 2^-18 at each product, times the factors that follow",
)
def reduce_product(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The product over axes, by halves of a row; every partial product must stay below 2^26."""
    reduced, shape = axes_of(call), call.outputs[0].shape
    kept = [a for a in range(len(x.shape)) if a not in reduced]
    count = count_of(call)
    if not count:
        return [_summed(call, x).plus_numbers(1.0)]
    rows = x.transpose(*kept, *reduced).contiguous(-1, count)
    while rows.shape[1] > 1:
        left, right, rest = _halved(rows)
        both = yield from truncated(party, multiply(party, left, right))
        rows = joined([both, rest], axis=1)
    return [rows.reshape(shape)]


def _log_sum_result(call: Call) -> Result:
    return Result(Replicated, call.at(24))


@operator(
    "ReduceLogSum",
    cost=lambda call: log_cost(call.outputs[0].size),
    result=_log_sum_result,
    refuse=not_empty,
    secret="first",
    error="as Log",
)
def reduce_log_sum(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The logarithm of a positive sum."""
    return [(yield from log_of(party, _summed(call, x)))]
