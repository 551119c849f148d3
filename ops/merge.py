"""Elements of several values brought together by public indices: Concat and Pad.

Pad runs once in the clear, on numbers that stand for the elements of its inputs, and the result says which
element goes where: the standard's own semantics, without a second implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.graph.run import run_node
from onnxpuma.mpc.forms import Form, joined, picked
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.beside import in_words, of_concat, of_put
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.shares import as_shares


@operator("Concat", secret="any", integers=True, beside=of_concat)
def concat(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """Values end to end along an axis; public ones become trivial shares."""
    axis, format = call.axis, call.outputs[0].resting
    yield from ()
    return [joined([as_shares(party, in_words(v), format) for v in values], axis)]


def numbered(call: Call, places: Sequence[int]) -> np.ndarray:
    """For each place of the output, the number of the element that goes there, counted across these inputs;
    -1 for none.
    """
    inputs = [None if o is None else o.value for o in call.inputs]
    start = 1
    for place in places:
        operand = call.given(place)
        inputs[place] = np.arange(start, start + operand.size, dtype=np.int64).reshape(operand.shape)
        start += operand.size
    return run_node(call.node, inputs, call.opset)[0].astype(np.int64) - 1


def _pad_refusal(call: Call) -> str | None:
    return "its pads or axes are secret" if call.secret(1) or call.secret(3) else None


@operator("Pad", refuse=_pad_refusal, secret="data, value", integers=True, beside=of_put)
def pad(
    party: Party, call: Call, x: Value, pads: Value, value: Value = None, axes: Value = None
) -> Protocol[Sequence[Form]]:
    """A number, or copies of elements, around the edges: local."""
    format = call.outputs[0].resting
    values = [as_shares(party, in_words(x), format)]
    places = [0]
    if call.attribute("mode") == "constant" and value is not None:
        values.append(as_shares(party, in_words(value), format))
        places.append(2)
    yield from ()
    return [picked(values, numbered(call, places))]
