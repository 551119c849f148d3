"""Transposed convolution: an ordinary one over an image with zeros between its elements."""

from __future__ import annotations

import math
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
from onnxpuma.ops.window import steps_of


def _refuse(call: Call) -> str | None:
    channels, wanted = call.given(0).shape[1], call.given(1).shape[0]
    if channels != wanted or channels % int(call.attribute("group")):
        return f"its input has {channels} channels, its weights take {wanted}"
    return None


def _result(call: Call) -> Result:
    return product_result(call, call.at(call.given(0).fraction + call.given(1).fraction))


def _starts(call: Call) -> list[int]:
    """For each spatial axis, the elements of the full result that are cut off at its start."""
    rank = len(call.outputs[0].shape) - 2
    pads = call.attribute("pads")
    auto = call.attribute("auto_pad")
    if call.attribute("output_shape") is None and auto in ("NOTSET", "", "VALID"):
        return [int(p) for p in (pads or [0] * rank)[:rank]]
    strides, dilations = steps_of(call, rank)
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
    x, w = as_shares(party, image, call.reals), as_shares(party, weights, call.reals)
    groups = int(call.attribute("group"))
    batch, channels = x.shape[:2]
    maps, *kernel = w.shape[1:]
    rank, inner, out = len(kernel), channels // groups, call.outputs[0].shape[2:]
    strides, dilations = steps_of(call, rank)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    # 1. the image with zeros between and around its elements
    wide = [n + r for n, r in zip(out, reach, strict=True)]
    places, sources = _mesh(x.shape[2:], reach, strides, _starts(call), wide)
    spaced = x[sources].within(places, (batch, channels, *wide))
    # 2. its windows as rows, the reversed kernels as columns, for each group
    windows = spaced.windows(tuple(r + 1 for r in reach), tuple(range(2, 2 + rank)))
    steps: tuple[Any, ...] = (..., *(slice(None, None, d) for d in dilations))
    found = windows[steps].reshape(batch, groups, inner, *out, *kernel)
    order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    rows = found.transpose(order).contiguous(groups, batch * math.prod(out), -1)
    turned: tuple[Any, ...] = (slice(None), slice(None), *([slice(None, None, -1)] * rank))
    columns = w[turned].reshape(groups, inner, maps, -1).transpose(0, 1, 3, 2).contiguous(groups, -1, maps)
    # 3. their product as an image
    z = product(party, rows, columns).reshape(groups, batch, *out, maps)
    z = z.transpose(1, 0, 2 + rank, *range(2, 2 + rank)).reshape(call.outputs[0].shape)
    return [(yield from with_bias(party, call, z, by_channel(b, rank)))]


def _mesh(
    spatial: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    starts: Sequence[int],
    wide: Sequence[int],
) -> tuple[Any, Any]:
    """The index of the image's elements in the wide image, and in the image itself."""
    places, sources = [], []
    for axis, size in enumerate(spatial):  # element i stands at reach - start + i * stride
        at = reach[axis] - starts[axis] + np.arange(size) * strides[axis]
        inside = (at >= 0) & (at < wide[axis])
        places.append(at[inside])
        sources.append(np.flatnonzero(inside))
    every = slice(None), slice(None)
    return (*every, *np.ix_(*places)), (*every, *np.ix_(*sources))
