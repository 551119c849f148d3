"""Average pooling: local sums of windows, times a public number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import mean_limits, output_below
from onnxpuma.ops.registry import Call, Result, operator
from onnxpuma.ops.window import window_of, windows_of


def _area(call: Call) -> int:
    return int(np.prod(call.given(0).shape[2:], dtype=np.int64))


def _global_result(call: Call) -> Result:
    return Result(Replicated, call.at(call.reals.fraction + factor_bits(1.0 / _area(call))))


@operator("GlobalAveragePool", result=_global_result, limits=mean_limits, error="one unit of 2^-18")
def global_average(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The mean over all spatial axes."""
    yield from ()
    axes, shape = tuple(range(2, len(x.shape))), call.outputs[0].shape
    total = x.sum(axes).reshape(shape)
    return [times_numbers(total, 1.0 / _area(call))]


def _weights(call: Call) -> np.ndarray:
    """One over the number of elements that count in each window, (*out)."""
    window, spatial = window_of(call), call.given(0).shape[2:]
    counts = []
    for axis, (before, after) in enumerate(window.padding):
        starts = np.arange(call.outputs[0].shape[2 + axis]) * window.strides[axis] - before
        places = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        low, high = 0, spatial[axis]
        if call.attribute("count_include_pad"):
            low, high = -before, spatial[axis] + after
        counts.append(np.count_nonzero((places >= low) & (places < high), axis=1))
    total = np.ones((), np.int64)
    for count in counts:
        total = total[..., None] * count
    return 1.0 / np.maximum(total, 1)


def _average_result(call: Call) -> Result:
    return Result(Replicated, call.at(call.reals.fraction + factor_bits(_weights(call))))


@operator("AveragePool", result=_average_result, limits=output_below(2.0**18), error="one unit of 2^-18")
def average_pool(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The mean of each window."""
    yield from ()
    shape = call.outputs[0].shape
    total = windows_of(call, x).sum(1).reshape(shape)
    return [times_numbers(total, _weights(call))]
