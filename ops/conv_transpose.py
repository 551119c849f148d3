"""Transposed convolution: an ordinary one over the image with zeros between its elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import matmul as product
from onnxpuma.ops.bias import by_channel, product_cost, product_result, with_bias
from onnxpuma.ops.limits import output_in_product
from onnxpuma.ops.registry import Call, Result, Value, both_fine, operator
from onnxpuma.ops.shares import as_shares


def _refuse(call: Call) -> str | None:
    channels, wanted = call.given(0).shape[1], call.given(1).shape[0]
    if channels != wanted or channels % int(call.attribute("group", 1)):
        return f"its input has {channels} channels, its weights take {wanted}"
    return None


def _result(call: Call) -> Result:
    return product_result(call, call.given(0).fraction + call.given(1).fraction)


def _starts(call: Call) -> list[int]:
    """For each spatial axis how many elements of the full result are cut off before the first."""
    rank = len(call.outputs[0].shape) - 2
    pads = call.attribute("pads")
    auto = call.attribute("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if call.attribute("output_shape") is None and auto in ("NOTSET", "", "VALID"):
        return [int(p) for p in (pads or [0] * rank)[:rank]]
    strides, dilations = (call.attribute(a) or [1] * rank for a in ("strides", "dilations"))
    extra = call.attribute("output_padding") or [0] * rank
    starts = []
    for axis in range(rank):
        kernel, size = call.given(1).shape[2 + axis], call.given(0).shape[2 + axis]
        full = (size - 1) * strides[axis] + (kernel - 1) * dilations[axis] + 1 + extra[axis]
        cut = full - call.outputs[0].shape[2 + axis]
        starts.append(cut // 2 if auto == "SAME_UPPER" else cut - cut // 2)
    return starts


@operator(
    "ConvTranspose",
    cost=product_cost,
    result=_result,
    refuse=_refuse,
    limits=output_in_product,
    error="one unit of 2^-18",
    fine=both_fine,
)
def conv_transpose(
    party: Party, call: Call, image: Value, weights: Value, b: Value = None
) -> Protocol[Sequence[Form]]:
    """The transposed convolution, with groups, strides, dilations and padding. No message."""
    x, w = as_shares(party, image), as_shares(party, weights)
    groups = int(call.attribute("group", 1))
    batch, channels, *spatial = x.shape
    per_group, *kernel = w.shape[1:]
    rank, inner = len(kernel), channels // groups
    strides, dilations = (call.attribute(a) or [1] * rank for a in ("strides", "dilations"))
    out, starts = call.outputs[0].shape[2:], _starts(call)
    order_in = (*range(2, 2 + rank), 0, 1)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]

    def rows(words: np.ndarray) -> np.ndarray:  # (groups, N * out, inner * kernel)
        wide = [n + r for n, r in zip(out, reach, strict=True)]
        spaced = np.zeros((batch, channels, *wide), words.dtype)
        places, sources = [], []
        for axis in range(rank):  # element i stands at reach - start + i * stride
            at = reach[axis] - starts[axis] + np.arange(spatial[axis]) * strides[axis]
            inside = (at >= 0) & (at < wide[axis])
            places.append(at[inside])
            sources.append(np.flatnonzero(inside))
        spaced.transpose(order_in)[np.ix_(*places)] = words.transpose(order_in)[np.ix_(*sources)]
        spans = tuple(r + 1 for r in reach)
        axes = tuple(range(2, 2 + rank))
        windows = np.lib.stride_tricks.sliding_window_view(spaced, spans, axis=axes)
        steps: tuple[Any, ...] = (Ellipsis, *(slice(None, None, d) for d in dilations))
        found = windows[steps].reshape(batch, groups, inner, *out, *kernel)
        order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        return np.ascontiguousarray(found.transpose(order)).reshape(groups, batch * int(np.prod(out)), -1)

    def columns(words: np.ndarray) -> np.ndarray:  # (groups, inner * kernel, M / groups)
        turned = np.flip(words, axis=tuple(range(2, 2 + rank))).reshape(groups, inner, per_group, -1)
        return np.ascontiguousarray(turned.transpose(0, 1, 3, 2)).reshape(groups, -1, per_group)

    def back(words: np.ndarray) -> np.ndarray:
        shaped = words.reshape(groups, batch, *out, per_group)
        return shaped.transpose(1, 0, 2 + rank, *range(2, 2 + rank)).reshape(call.outputs[0].shape)

    z = product(party, x.map(rows), w.map(columns)).map(back)
    return [(yield from with_bias(party, call, z, by_channel(b, rank)))]
