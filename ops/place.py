"""ArgMax and ArgMin: where the largest or smallest of a row stands, a secret integer.

A long row of an untruncated product, such as the logits of a vocabulary, is read directly from the product,
at fewer bits on both ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.argmax import Way, argmax, argmax_cost
from onnxpuma.mpc.protocols.convert import replicate_sum, replicate_sum_cost, settle
from onnxpuma.ops.comparison import bits_for, compared, width
from onnxpuma.ops.limits import Arrays, Limit, asks
from onnxpuma.ops.registry import Call, Result, Use, operator
from onnxpuma.ops.running import SLACK as LARGEST_SLACK
from onnxpuma.ops.running import contenders, rows_beside
from onnxpuma.ops.sight import seen
from onnxpuma.ops.tournament import as_rows

LONG = 1024
"""Rows of at least this many elements are read from an untruncated product, which lies below 2^26."""
PRODUCT_FRACTION = 12
"""Fraction bits at which a product is read."""


def _is_long(call: Use) -> bool:
    x = call.given(0)
    if x.reach:  # a secret mask needs all bits
        return False
    return x.dtype.kind == "f" and len(x.shape) > 0 and x.shape[call.axis] >= LONG


def _defers(call: Use, index: int) -> bool:
    return index == 0 and _is_long(call)


def _product_bits(call: Call) -> int:
    """Bits at which a product is read: all that it has, or as many as its bound needs."""
    x = call.given(0)
    there = x.format.bits - (x.fraction - PRODUCT_FRACTION)
    return there if x.beside is not None else min(there, bits_for(x.bound.size, PRODUCT_FRACTION))


def _slack(call: Call) -> float:
    """Two elements of a row differ by less than this; so do the numbers beside elements that can win."""
    x = call.given(0)
    return x.format.largest if x.form is Sum3 else LARGEST_SLACK


def _cost(call: Call) -> Cost:
    x = call.given(0)
    length = x.shape[call.axis]
    found = argmax_cost(x.size // length, length, _bits(call), _way(call))
    return replicate_sum_cost(x.size, _bits(call)) + found if x.form is Sum3 else found


def _bits(call: Call) -> int:
    """Bits at which the elements are compared."""
    return _product_bits(call) if call.given(0).form is Sum3 else width(call)


def _way(call: Call) -> Way:
    x = call.given(0)
    length, bits = x.shape[call.axis], _bits(call)
    ways = {way.value: argmax_cost(x.size // length, length, bits, way) for way in Way}
    return Way(call.network.fastest(ways))


def _whole(call: Call) -> Result:
    return Result(Replicated, call.at(0))


def _empty(call: Call) -> str | None:
    return None if call.given(0).size else "it looks for a place in nothing"


def _range_of_rows(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x = np.asarray(inputs[0], np.float64)
    return np.ptp(x, axis=call.axis) if x.size else np.zeros(0)


def _apart(call: Call) -> float:
    x = seen(call.given(0))
    return x.high - x.low


def _limits(call: Call) -> tuple[Limit, ...]:
    if call.given(0).form is Sum3:
        below, what = _slack(call), "the difference of two of a row"
        needs = asks("spread", below, axes=(call.axis - len(call.given(0).shape),))
        return (Limit(what, _range_of_rows, below, stays=_apart, needs=needs),)
    return compared(call)


@operator(
    "ArgMax", "ArgMin",
    cost=_cost, result=_whole, defers=_defers, refuse=_empty, limits=_limits, integers=True,
    beside=lambda call: [None], reaches=True,
    error="exact; in a product's rows of 1024 and more, either of two elements within 2^-10",
)  # fmt: skip
def place_of_extreme(party: Party, call: Call, x: Shares) -> Protocol[Sequence[Form]]:
    """The index of the largest or smallest along an axis; among equal ones the first, or the last."""
    axis, shape = call.axis, call.outputs[0].shape
    length = x.shape[axis]
    if isinstance(x, Sum3):
        narrow = x.lowered(x.fraction - PRODUCT_FRACTION).modulo(_product_bits(call))
        read = yield from settle(party, replicate_sum(party, narrow))
    else:
        read = x.modulo(width(call))
    sign = 1.0 if call.node.op == "ArgMax" else -1.0
    rows = as_rows(read if sign > 0 else -read, (axis,), length)
    rows = contenders(rows, rows_beside(call, (axis,), sign), _slack(call))
    if not call.attribute("select_last_index"):
        places = yield from argmax(party, rows, _way(call))
    else:  # the first, from the other end
        backwards = yield from argmax(party, rows[:, ::-1].contiguous(-1, length), _way(call))
        places = (-backwards).plus_numbers(length - 1)
    return [places.reshape(shape)]
