"""The windows of an image that a convolution or a pooling looks at, and the padding around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.forms import Replicated
from onnxpuma.ops.registry import Call


def padding_of(call: Call, spatial: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for each spatial axis, from `pads` or `auto_pad`."""
    rank = len(spatial)
    strides = call.attribute("strides") or [1] * rank
    dilations = call.attribute("dilations") or [1] * rank
    auto = call.attribute("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", ""):
        pads = call.attribute("pads") or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * rank
    result = []
    for size, k, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        result.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return result


def look(call: Call, kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """The elements that a window spans of each spatial axis, and the index of the windows that count.

    Of all windows (N, C, *, *spans) the index keeps those at the strides, and the dilations' part of each.
    """
    strides = call.attribute("strides") or [1] * len(kernel)
    dilations = call.attribute("dilations") or [1] * len(kernel)
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    return spans, tuple(slice(None, None, step) for step in (1, 1, *strides, *dilations))


def spatial_axes(kernel: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(2, 2 + len(kernel)))


def patches(call: Call, x: Replicated, kernel: Sequence[int]) -> Replicated:
    """A padded image (N, C, *spatial) -> (N, C, *out, *kernel), a view."""
    spans, index = look(call, kernel)
    return x.windows(spans, spatial_axes(kernel))[index]


def _margins(call: Call, shape: tuple[int, ...], kernel: tuple[int, ...]) -> list[tuple[int, int]]:
    """The padding of a pooling, (before, after) for each axis, as far as the last window looks."""
    out = call.outputs[0].shape[2:]
    strides = call.attribute("strides") or [1] * len(kernel)
    dilations = call.attribute("dilations") or [1] * len(kernel)
    widths = [(0, 0), (0, 0)]
    for size, (before, after), n, stride, k, dilation in zip(
        shape[2:], padding_of(call, shape[2:], kernel), out, strides, kernel, dilations, strict=True
    ):
        reach = (n - 1) * stride + (k - 1) * dilation + 1  # ceil_mode may look further than the padding
        widths.append((before, max(after, reach - size - before)))
    return widths


def windows_of(call: Call, x: Replicated, filler: float = 0.0) -> Replicated:
    """(outputs, kernel) of a pooling; the public filler stands in the padding."""
    kernel = tuple(call.attribute("kernel_shape"))
    margins = _margins(call, x.shape, kernel)
    padded = x.pad(margins)
    if filler:
        padded = padded.plus_numbers(np.pad(np.zeros(x.shape), margins, constant_values=filler))
    return patches(call, padded, kernel)[_outputs(call)].contiguous(-1, math.prod(kernel))


def public_windows_of(call: Call, image: np.ndarray, filler: float = 0.0) -> np.ndarray:
    """`windows_of` public numbers."""
    kernel = tuple(call.attribute("kernel_shape"))
    padded = np.pad(image, _margins(call, image.shape, kernel), constant_values=filler)
    spans, index = look(call, kernel)
    found = np.lib.stride_tricks.sliding_window_view(padded, spans, spatial_axes(kernel))[index]
    return np.ascontiguousarray(found[_outputs(call)]).reshape(-1, math.prod(kernel))


def _outputs(call: Call) -> tuple[slice, ...]:
    """The windows that a pooling has an output for."""
    return slice(None), slice(None), *(slice(0, n) for n in call.outputs[0].shape[2:])
