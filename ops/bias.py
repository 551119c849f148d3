"""The bias of a product: added before the truncation, or after it if the word has no room for it.

A product with a weight of small numbers has more than 36 fraction bits (plan/weights/scaling.py), and its
bias needs as many.
"""

from __future__ import annotations

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.elementwise import add_forms
from onnxpuma.ops.narrow_factor import is_stored_narrow
from onnxpuma.ops.registry import Call, Result, Value
from onnxpuma.ops.spread import shift_cost, truncated

ROOMY = 6  # fraction bits beyond 36 that leave room for a value up to 2^20


def _finer(call: Call) -> int:
    return sum(call.given(place).finer for place in (0, 1))


def _crowded(call: Call) -> bool:
    narrow = any(is_stored_narrow(call.given(place)) for place in (0, 1))  # its bound includes the bias
    return call.present(2) and _finer(call) > ROOMY and not narrow


def product_result(call: Call, format: Format) -> Result:
    """The result of a product in this format and, if there is one, its bias, input 2."""
    return Result() if _crowded(call) else Result(Sum3, format)


def product_cost(call: Call, more: int = 0) -> Cost:
    """The cost of a truncation that comes before the bias. more: extra fraction bits of the product."""
    if not _crowded(call):
        return FREE
    shift = call.reals.fraction + _finer(call) + more
    return shift_cost(call.outputs[0].size, shift, call.ring)


def with_bias(party: Party, call: Call, product: Sum3, bias: Value) -> Protocol[Shares]:
    """product + bias, in the form that `product_result` declares."""
    if bias is None:
        return product
    room = (yield from truncated(party, product)) if _crowded(call) else product
    return add_forms(room, bias, 1)


def by_channel(bias: Value, spatial: int) -> Value:
    """A bias (channels,) that broadcasts to an image (N, channels, ...) with this many spatial axes."""
    column = (1, -1, *([1] * spatial))
    return None if bias is None else bias.reshape(column)
