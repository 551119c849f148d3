"""Convolution as a matrix product of the image's patches with the kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import matmul as product
from onnxpuma.ops.bias import by_channel, product_cost, product_result, with_bias
from onnxpuma.ops.limits import output_in_product
from onnxpuma.ops.registry import Call, Result, Value, both_fine, operator
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.window import patches, window_of


def _refuse(call: Call) -> str | None:
    channels, groups = call.given(0).shape[1], int(call.attribute("group"))
    wanted, maps = call.given(1).shape[1] * groups, call.given(1).shape[0]
    if channels != wanted or maps % groups:
        return f"its input has {channels} channels, its weights take {wanted} and give {maps}"
    return None


def _conv_result(call: Call) -> Result:
    return product_result(call, call.at(call.given(0).fraction + call.given(1).fraction))


@operator(
    "Conv",
    cost=product_cost,
    result=_conv_result,
    refuse=_refuse,
    limits=output_in_product,
    error="2^-18 after truncation",
    fine=both_fine,
)
def conv(party: Party, call: Call, image: Value, weights: Value, b: Value = None) -> Protocol[Sequence[Form]]:
    """Convolution with groups, strides, dilations and padding, any number of spatial axes. No message."""
    x, w = as_shares(party, image, call.reals), as_shares(party, weights, call.reals)
    groups = call.attribute("group")
    batch, maps, window = x.shape[0], w.shape[0] // groups, window_of(call, w.shape[2:])
    rank, out = len(window.kernel), call.outputs[0].shape[2:]
    # 1. the windows as rows, the kernels as columns, for each group
    padded = x.pad([(0, 0), (0, 0), *window.padding]) if any(map(any, window.padding)) else x
    found = patches(window, padded).reshape(batch, groups, w.shape[1], *out, *window.kernel)
    order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    rows = found.transpose(order).contiguous(groups, batch * math.prod(out), -1)
    columns = w.reshape(groups, maps, -1).transpose(0, 2, 1).contiguous()
    # 2. their product as an image
    z = product(party, rows, columns).reshape(groups, batch, *out, maps)
    z = z.transpose(1, 0, 2 + rank, *range(2, 2 + rank)).reshape(call.outputs[0].shape)
    return [(yield from with_bias(party, call, z, by_channel(b, rank)))]
