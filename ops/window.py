"""How a window slides over the spatial axes of an image: of convolutions and pools."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpuma.ops.registry import Call


@dataclass(frozen=True)
class Window:
    """One number for each spatial axis, a pair for each in `padding`."""

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
    """The window of a use; without a kernel, that of a pool."""
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


def patches(window: Window, words: np.ndarray, padded: bool = False) -> np.ndarray:
    """(N, C, *spatial) -> (N, C, *out, *kernel), a view where nothing is padded now."""
    rank = len(window.kernel)
    if not padded and any(p != (0, 0) for p in window.padding):
        words = np.pad(words, [(0, 0), (0, 0), *window.padding])
    spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(words, spans, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in window.strides)
    inner = tuple(slice(None, None, d) for d in window.dilations)
    index = (slice(None), slice(None), *steps, *inner)
    return windows[index]


def padded_patches(call: Call, words: np.ndarray, filler: float) -> np.ndarray:
    """Windows of a padded image, with this word in the padding; the last may reach over the edge."""
    window, out = window_of(call), call.outputs[0].shape[2:]
    widths = []
    for size, (before, after), n, stride, k, dilation in zip(
        words.shape[2:], window.padding, out, window.strides, window.kernel, window.dilations, strict=True
    ):
        reach = (n - 1) * stride + (k - 1) * dilation + 1  # ceil_mode may look further than the padding
        widths.append((before, max(after, reach - size - before)))
    value = np.array(filler).astype(words.dtype)
    padded = np.pad(words, [(0, 0), (0, 0), *widths], constant_values=value)
    windows = patches(window, padded, padded=True)
    index = (slice(None), slice(None), *(slice(0, n) for n in out))
    return windows[index]
