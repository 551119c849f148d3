"""Noise on an output: the node that an owner's wish puts behind scores or counts (graph/noising.py).

A value that is to be clipped is clipped at all 64 bits and by one end after the other, so that it lies in the
range whatever its words are. A client that sends numbers for which earlier operators are wrong therefore
moves no answer further than the range allows.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.graph.noising import DOMAIN, NOISE
from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.noise import drawn
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.noisy import noisy
from onnxpuma.ops.registry import Call, Result, operator
from onnxpuma.ops.select import positive, positive_cost
from onnxpuma.ops.shares import replicated


def _cost(call: Call) -> Cost:
    if call.attribute("low") is None:
        return FREE
    one = positive_cost(call.given(0).size, network=call.network)
    return one + one


def _held(party: Party, x: Replicated, low: int, high: int, call: Call) -> Protocol[Replicated]:
    """x moved into [low, high], in units: high - max(high - low - max(x - low, 0), 0)."""
    start, end = low * x.format.unit, high * x.format.unit  # exact
    above = yield from positive(party, x.plus_numbers(-start), network=call.network)
    below = yield from positive(party, (-above).plus_numbers(end - start), network=call.network)
    return (-below).plus_numbers(end)


@operator(
    NOISE,
    domain=DOMAIN,
    cost=_cost,
    result=lambda call: Result(Sum3, call.outputs[0].resting),
    integers=True,
    error="noise on purpose",
)
def add_noise(party: Party, call: Call, x: object) -> Protocol[Sequence[Form]]:
    """x and the noise of three servers: a sum whose terms they hold."""
    held, low, high = replicated(x), call.attribute("low"), call.attribute("high")
    if low is not None:
        held = yield from _held(party, held, low, high, call)
    kind, scale = call.attribute("kind"), call.attribute("scale")
    own = party.alone(lambda: drawn(kind, scale, held.shape, held.bits))
    yield from ()
    return [noisy(held, own)]
