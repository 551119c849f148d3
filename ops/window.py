"""The windows of an image that convolutions and pools read, and the padding around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.forms import Replicated
from onnxpuma.ops.registry import Call


@dataclass(frozen=True)
class Window:
    """How a window slides: one number for each spatial axis, a pair in `padding`."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    # Elements added before the first and after the last.
    padding: tuple[tuple[int, int], ...]


def steps_of(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations."""
    ones = (1,) * rank
    return tuple(call.attribute("strides") or ones), tuple(call.attribute("dilations") or ones)


def window_of(call: Call, kernel: tuple[int, ...] = ()) -> Window:
    """The window of a call; if no weights give its kernel, a pool's `kernel_shape` does."""
    kernel = kernel or tuple(call.attribute("kernel_shape"))
    strides, dilations = steps_of(call, len(kernel))
    return Window(kernel, strides, dilations, _padding(call, kernel, strides, dilations))


def _padding(
    call: Call, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    rank, auto = len(kernel), call.attribute("auto_pad")
    if auto in ("NOTSET", ""):
        pads = call.attribute("pads") or [0] * (2 * rank)
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        return ((0, 0),) * rank
    result = []
    for size, k, stride, dilation in zip(call.given(0).shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        small = total // 2
        result.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
    return tuple(result)


def _look(window: Window) -> tuple[tuple[int, ...], tuple[int, ...], tuple[slice, ...]]:
    """The spatial axes, the elements that a window spans of each, and the index of the windows that count.

    Of all windows (N, C, *, *spans) the index keeps those at the strides, and in each the elements at the
    dilations.
    """
    axes = tuple(range(2, 2 + len(window.kernel)))
    spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    return axes, spans, tuple(slice(None, None, step) for step in (1, 1, *window.strides, *window.dilations))


def patches(window: Window, x: Replicated) -> Replicated:
    """A padded image (N, C, *spatial) -> (N, C, *out, *kernel), a view."""
    axes, spans, index = _look(window)
    return x.windows(spans, axes)[index]


def windows_of(call: Call, x: Replicated, filler: float = 0.0) -> Replicated:
    """(outputs, kernel) of a pool; the public filler stands in the padding."""
    window = window_of(call)
    margins = _margins(call, window)
    padded = x.pad(margins)
    if filler:
        padded = padded.plus_numbers(np.pad(np.zeros(x.shape), margins, constant_values=filler))
    return patches(window, padded)[_outputs(call)].contiguous(-1, math.prod(window.kernel))


def public_windows_of(call: Call, image: np.ndarray, filler: float = 0.0) -> np.ndarray:
    """`windows_of` public numbers."""
    window = window_of(call)
    axes, spans, index = _look(window)
    padded = np.pad(image, _margins(call, window), constant_values=filler)
    found = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)[index]
    return np.ascontiguousarray(found[_outputs(call)]).reshape(-1, math.prod(window.kernel))


def _margins(call: Call, window: Window) -> list[tuple[int, int]]:
    """The padding of a pool, (before, after) for each axis, up to the end of the last window."""
    widths = [(0, 0), (0, 0)]
    for size, (before, after), n, stride, k, dilation in zip(
        call.given(0).shape[2:],
        window.padding,
        call.outputs[0].shape[2:],
        window.strides,
        window.kernel,
        window.dilations,
        strict=True,
    ):
        reach = (n - 1) * stride + (k - 1) * dilation + 1  # ceil_mode may extend it beyond the padding
        widths.append((before, max(after, reach - size - before)))
    return widths


def _outputs(call: Call) -> tuple[slice, ...]:
    """The index of the windows for which a pool has an output."""
    return slice(None), slice(None), *(slice(0, n) for n in call.outputs[0].shape[2:])
