"""Convolution as a matrix product of the image's patches with the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import matmul as product
from onnxpuma.ops.bias import by_channel, product_cost, product_result, with_bias
from onnxpuma.ops.limits import output_in_product
from onnxpuma.ops.registry import Call, Result, Value, both_fine, operator
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.windows import patches


def _refuse(call: Call) -> str | None:
    channels, groups = call.given(0).shape[1], int(call.attribute("group", 1))
    wanted, maps = call.given(1).shape[1] * groups, call.given(1).shape[0]
    if channels != wanted or maps % groups:
        return f"its input has {channels} channels, its weights take {wanted} and give {maps}"
    return None


def _conv_result(call: Call) -> Result:
    x, w = call.given(0), call.given(1)
    return product_result(call, x.fraction + w.fraction)


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
    x, w = as_shares(party, image), as_shares(party, weights)
    groups = call.attribute("group", 1)
    batch = x.shape[0]
    outputs, per_group = w.shape[:2]
    kernel = w.shape[2:]
    rank = len(kernel)
    out_spatial = call.outputs[0].shape[2:]

    def rows(words: np.ndarray) -> np.ndarray:  # (groups, N * out, C/groups * kernel)
        found = patches(call, words, kernel).reshape(batch, groups, per_group, *out_spatial, *kernel)
        axes = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        return np.ascontiguousarray(found.transpose(axes)).reshape(
            groups, batch * int(np.prod(out_spatial)), -1
        )

    def columns(words: np.ndarray) -> np.ndarray:  # (groups, C/groups * kernel, M/groups)
        return np.ascontiguousarray(words.reshape(groups, outputs // groups, -1).transpose(0, 2, 1))

    z = product(party, x.map(rows), w.map(columns))

    def back(words: np.ndarray) -> np.ndarray:
        shaped = words.reshape(groups, batch, *out_spatial, outputs // groups)
        axes = (1, 0, 2 + rank, *range(2, 2 + rank))
        return shaped.transpose(axes).reshape(batch, outputs, *out_spatial)

    z = z.map(back)
    return [(yield from with_bias(party, call, z, by_channel(b, rank)))]
