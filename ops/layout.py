"""Operators that only move elements: local on every form.

The common ones are views. Each of the others runs once in the clear, on the indices of its input's elements,
and the result says which element goes where: the standard's own semantics, without a second implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from onnxpuma.graph.run import run_node
from onnxpuma.mpc.forms import Form, Shares, picked
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.beside import of_moved
from onnxpuma.ops.moves import order_of
from onnxpuma.ops.registry import Call, Use, Value, as_first, operator


def _only_first(call: Call) -> str | None:
    if any(o is not None and o.secret for o in call.inputs[1:]):
        return "only its first input may be secret: a secret shape, index or axis would decide what is sent"
    return None


def _always(call: Use, index: int) -> bool:
    return True


@operator(
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    result=as_first,
    defers=_always,
    refuse=_only_first,
    secret="first",
    moves=True,
    beside=of_moved,
)
def reshape(party: Party, call: Call, x: Shares, *_: Value) -> Protocol[Sequence[Form]]:
    """The same elements in another shape."""
    shape = call.outputs[0].shape
    yield from ()
    return [x.reshape(shape)]


def _no_dropout(call: Call) -> str | None:
    if len(call.outputs) > 1:
        return "its second output, the mask, is not supported"
    training = call.public(2)
    if call.secret(2) or (training is not None and bool(training)):
        return "it is in training mode: export the model for inference"
    return _only_first(call)


@operator(
    "Identity",
    "Dropout",
    result=as_first,
    defers=_always,
    refuse=_no_dropout,
    secret="first",
    moves=True,
    beside=of_moved,
)
def identity(party: Party, call: Call, x: Shares, *_: Value) -> Protocol[Sequence[Form]]:
    """The value itself: inference drops nothing."""
    yield from ()
    return [x]


@operator("Transpose", result=as_first, defers=_always, secret="first", moves=True, beside=of_moved)
def transpose(party: Party, call: Call, x: Shares) -> Protocol[Sequence[Form]]:
    """Axes permuted."""
    yield from ()
    return [x.transpose(order_of(call))]


@operator(
    "Expand",
    result=as_first,
    defers=_always,
    refuse=_only_first,
    secret="first",
    moves=True,
    beside=of_moved,
)
def expand(party: Party, call: Call, x: Shares, shape: np.ndarray) -> Protocol[Sequence[Form]]:
    """Broadcast to a larger shape."""
    target = call.outputs[0].shape
    yield from ()
    return [x.broadcast_to(target)]


@operator(
    "Split", result=as_first, defers=_always, refuse=_only_first, secret="first", moves=True, beside=of_moved
)
def split(party: Party, call: Call, x: Shares, *_: Value) -> Protocol[Sequence[Form]]:
    """Parts along an axis."""
    axis = call.axis
    edges = np.cumsum([0, *(o.shape[axis] for o in call.outputs)])
    before = (slice(None),) * axis
    yield from ()
    parts = [(*before, slice(start, end)) for start, end in pairwise(edges)]
    return [x[part] for part in parts]


def beyond(index: np.ndarray | None, size: int) -> str | None:
    """Refuse a public index that is not in [-size, size)."""
    if index is None or not index.size:
        return None
    low, high = int(index.min()), int(index.max())
    if -size <= low and high < size:
        return None
    return f"its index {low if low < -size else high} is beyond an axis of {size}"


def _index_refusal(call: Call) -> str | None:
    reason, index, shape = _only_first(call), call.public(1), call.given(0).shape
    if reason or index is None:
        return reason
    if call.node.op == "GatherElements":
        return beyond(index, shape[call.axis])
    first = int(call.attribute("batch_dims"))
    found = (beyond(index[..., k], shape[first + k]) for k in range(index.shape[-1]))
    return next((reason for reason in found if reason), None)


def index_map(call: Call) -> list[np.ndarray]:
    """For each output, the flat index into the first input of every element; -1 for a zero."""
    first = call.given(0)
    indices = np.arange(1, first.size + 1, dtype=np.int64).reshape(first.shape)
    inputs: list[np.ndarray | None] = [indices]
    inputs += [None if o is None else o.value for o in call.inputs[1:]]
    return [out.astype(np.int64) - 1 for out in run_node(call.node, inputs, call.opset)]


def _slices(call: Call) -> tuple[slice, ...]:
    """The numpy index that selects the same part."""
    shape = call.given(0).shape
    starts, ends = (np.asarray(call.public(place)).reshape(-1).tolist() for place in (1, 2))
    axes, steps = call.public(3), call.public(4)
    found = [slice(None)] * len(shape)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = number if axes is None else int(np.atleast_1d(axes)[number]) % len(shape)
        step = 1 if steps is None else int(np.atleast_1d(steps)[number])
        if step < 0 and start < -shape[axis]:  # the standard starts at the first element
            start = 0
        found[axis] = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    return tuple(found)


@operator(
    "Slice", result=as_first, defers=_always, refuse=_only_first, secret="first", moves=True, beside=of_moved
)
def part(party: Party, call: Call, x: Shares, *_: Value) -> Protocol[Sequence[Form]]:
    """A part, with a step along each axis."""
    index = _slices(call)
    yield from ()
    return [x[index]]


def _stays(call: Call) -> bool:
    """Whether every row stays in its place: a cache of sequences of one length."""
    index = call.operand(1)
    if call.node.op != "GatherND" or index is None or index.value is None or index.shape[-1:] != (1,):
        return False
    whole = call.outputs[0].shape == call.given(0).shape
    if call.attribute("batch_dims") != len(index.shape) - 2 or not whole:
        return False
    return bool(np.all(index.value[..., 0] == np.arange(index.shape[-2])))


@operator(
    "GatherElements",
    "GatherND",
    result=as_first,
    defers=_always,
    refuse=_index_refusal,
    secret="data, ids of the client",
    moves=True,
    beside=of_moved,
)
def gathered(party: Party, call: Call, x: Shares, index: np.ndarray) -> Protocol[Sequence[Form]]:
    """Elements or rows by public indices, or by the client's secret ids as in Gather."""
    yield from ()
    return [x] if _stays(call) else [picked([x], places) for places in index_map(call)]


@operator(
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
    "Trilu",
    "Compress",
    "ReverseSequence",
    result=as_first,
    defers=_always,
    refuse=_only_first,
    secret="first",
    moves=True,
    beside=of_moved,
)
def moved(party: Party, call: Call, x: Shares, *_: Value) -> Protocol[Sequence[Form]]:
    """Elements moved by public indices."""
    yield from ()
    return [picked([x], index) for index in index_map(call)]
