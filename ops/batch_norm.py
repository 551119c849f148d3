"""Batch normalisation with the statistics of training: one scale and one shift for each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.limits import Arrays, Limit, of_output, result_size
from onnxpuma.ops.quotient import inverse_root, inverse_root_cost
from onnxpuma.ops.registry import Call, Result, Value, operator
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.sight import seen
from onnxpuma.ops.spread import shift_cost, truncated

FACTOR_FRACTION = 24  # fraction bits of scale / sqrt(variance + epsilon)


def _result(call: Call) -> Result:
    return Result(Sum3, call.at(call.reals.fraction + FACTOR_FRACTION))


def _cost(call: Call) -> Cost:
    channels = call.given(1).size
    root = inverse_root_cost(channels, call.reals, FACTOR_FRACTION, call.network)
    return root + shift_cost(channels, call.reals.fraction, call.ring)


def _refuse(call: Call) -> str | None:
    if call.attribute("training_mode") or len(call.outputs) > 1:
        return "it is in training mode: export the model for inference"
    return None


def _factors(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    scale, variance = (np.asarray(inputs[i], np.float64) for i in (1, 4))
    return np.abs(scale) / np.sqrt(variance + float(call.attribute("epsilon")))


def _limits(call: Call) -> tuple[Limit, ...]:
    scaled = Limit("scale / deviation", _factors, 2.0**12, stays=_largest_factor)
    return scaled, Limit("|result|", of_output(), 2.0**20, stays=result_size, needs=_small_image)


def _largest_factor(call: Call) -> float:
    least = max(seen(call.given(4)).low, 0.0) + float(call.attribute("epsilon"))
    return seen(call.given(1)).size / math.sqrt(least) if least > 0 else math.inf


def _small_image(call: Call) -> Sequence[Need]:
    most = _largest_factor(call)
    below = (2.0**20 - seen(call.given(2)).size) / most - seen(call.given(3)).size if most > 0 else 0.0
    return (Need(0, "element", below),) if 0 < below < math.inf else ()


@operator(
    "BatchNormalization",
    cost=_cost,
    result=_result,
    refuse=_refuse,
    limits=_limits,
    error="1e-5 of the result, 4e-6",
)
def batch_normalization(
    party: Party, call: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value
) -> Protocol[Sequence[Form]]:
    """(x - mean) * (scale / sqrt(variance + epsilon)) + bias."""
    held = [as_shares(party, value, call.reals) for value in (x, scale, bias, mean, variance)]
    epsilon = float(call.attribute("epsilon"))
    root = yield from inverse_root(party, held[4].plus_numbers(epsilon), FACTOR_FRACTION, call.network)
    factor = yield from truncated(party, multiply(party, held[1], root), root.format)
    column = (-1, *([1] * (len(held[0].shape) - 2)))

    def by_channel(value: Replicated) -> Replicated:
        return value.flat().reshape(column)

    centred = held[0] - by_channel(held[3])
    return [multiply(party, centred, by_channel(factor)).plus_shared(by_channel(held[2]))]
