"""Elements of several values put together by public indices: Concat, padding by a number.

The operator is run once, in the clear, on numbers that stand for the elements of its inputs, and what comes
out says which element goes where: the standard's own semantics without a second implementation of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.graph.run import run_node
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.beside import in_words, of_concat, of_put
from onnxpuma.ops.layout import as_shares
from onnxpuma.ops.registry import Call, Result, Value, operator, resting_fraction


def resting(call: Call) -> Result:
    """Truncated, whatever went in."""
    return Result(fraction=resting_fraction(call.outputs[0].dtype))


@operator("Concat", result=resting, secret="any", integers=True, beside=of_concat)
def concat(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """Values end to end along an axis; public ones become trivial shares."""
    axis, fraction = call.axis, resting(call).fraction
    shares = [as_shares(party, in_words(v), fraction=fraction) for v in values]
    first = np.concatenate([s.first for s in shares], axis=axis)
    second = np.concatenate([s.second for s in shares], axis=axis)
    yield from ()
    return [Replicated(party.index, first, second, Format(64, shares[0].fraction))]


def numbered(call: Call, places: Sequence[int]) -> np.ndarray:
    """For each place of the output the number of the element that goes there, counted through these inputs
    from one; zero where there is none."""
    inputs = [None if o is None else o.value for o in call.inputs]
    start = 1
    for place in places:
        operand = call.given(place)
        inputs[place] = np.arange(start, start + operand.size, dtype=np.int64).reshape(operand.shape)
        start += operand.size
    return run_node(call.node, inputs, call.opset)[0].astype(np.int64)


def picked(party: Party, values: Sequence[Replicated], numbers: np.ndarray) -> Replicated:
    """The elements of all these values, laid end to end, by their numbers."""

    def pick(words: Sequence[np.ndarray]) -> np.ndarray:
        flat = [np.zeros(1, np.uint64), *(w.reshape(-1) for w in words)]
        return np.concatenate(flat)[numbers]

    first, second = pick([v.first for v in values]), pick([v.second for v in values])
    return Replicated(party.index, first, second, Format(64, values[0].fraction))


def _pad_refusal(call: Call) -> str | None:
    return "its pads or axes are secret" if call.secret(1) or call.secret(3) else None


@operator("Pad", result=resting, refuse=_pad_refusal, secret="data, value", integers=True, beside=of_put)
def pad(
    party: Party, call: Call, x: Value, pads: Value, value: Value = None, axes: Value = None
) -> Protocol[Sequence[Form]]:
    """A number, or copies, around the edges: local."""
    fraction = resting(call).fraction
    values = [as_shares(party, in_words(x), fraction=fraction)]
    places = [0]
    if call.attribute("mode") == "constant" and value is not None:
        values.append(as_shares(party, in_words(value), fraction=fraction))
        places.append(2)
    yield from ()
    return [picked(party, values, numbered(call, places))]
