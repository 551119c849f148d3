"""A bias beside a product: added before the truncation, or after it where it would not fit into the word.

A product with a weight of small numbers has more than 36 fraction bits (plan/weights/scaling.py), and a bias
has to be brought to as many.
"""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.elementwise import add_forms
from onnxpuma.ops.registry import FRACTION, Call, Result, Value
from onnxpuma.ops.spread import shift_cost, truncated

ROOMY = 6  # fraction bits beyond 36 beside which a value up to 2^20 fits


def _finer(call: Call) -> int:
    return sum(call.given(place).finer for place in (0, 1))


def _crowded(call: Call) -> bool:
    return call.present(2) and _finer(call) > ROOMY


def product_result(call: Call, fraction: int) -> Result:
    """Of a product with this many fraction bits, and its bias, input 2, if it has one."""
    return Result(Replicated, FRACTION) if _crowded(call) else Result(Sum3, fraction)


def product_cost(call: Call, more: int = 0) -> Cost:
    """The truncation, where it comes before the bias; of a product with `more` fraction bits of its own."""
    if not _crowded(call):
        return FREE
    shift = FRACTION + _finer(call) + more
    return shift_cost(call.outputs[0].size, shift, RESTING.bits)


def with_bias(party: Party, call: Call, product: Sum3, bias: Value) -> Protocol[Sum3 | Replicated]:
    """product + bias, in the form of `product_result`."""
    if bias is None:
        return product
    room = (yield from truncated(party, product)) if _crowded(call) else product
    total = add_forms(room, bias, 1, party)
    assert isinstance(total, (Sum3, Replicated))
    return total


def by_channel(bias: Value, spatial: int) -> Value:
    """A bias (channels,) beside a picture (N, channels, ...) of so many spatial axes."""
    column = (1, -1, *([1] * spatial))
    if isinstance(bias, np.ndarray):
        return bias.reshape(column)
    return bias.map(lambda words: words.reshape(column)) if isinstance(bias, Replicated) else None
