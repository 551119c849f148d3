"""The windows of an image that a convolution or a pooling looks at, and the padding around it."""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.forms import Replicated
from onnxpuma.ops.registry import Call


def padding_of(call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> list[tuple[int, int]]:
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


def patches(call: Call, words: np.ndarray, kernel: tuple[int, ...], padded: bool = False) -> np.ndarray:
    """(N, C, *spatial) -> (N, C, *out, *kernel), a view unless this pads the image.

    padded: the image has its padding already.
    """
    rank = len(kernel)
    strides = call.attribute("strides") or [1] * rank
    dilations = call.attribute("dilations") or [1] * rank
    padding = [] if padded else padding_of(call, words.shape[2:], kernel)
    if any(p != (0, 0) for p in padding):
        words = np.pad(words, [(0, 0), (0, 0), *padding])
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(words, spans, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in strides)
    inner = tuple(slice(None, None, d) for d in dilations)
    index = (slice(None), slice(None), *steps, *inner)
    return windows[index]


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


def _cut(call: Call, padded: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """(N, C, *out, *kernel) of a padded image."""
    out = call.outputs[0].shape[2:]
    found = patches(call, padded, kernel, padded=True)
    index = (slice(None), slice(None), *(slice(0, n) for n in out))
    return found[index]


def windows_of(call: Call, x: Replicated, filler: float = 0.0) -> Replicated:
    """(outputs, kernel) of a pooling; the public filler stands in the padding."""
    kernel = tuple(call.attribute("kernel_shape"))
    margins = _margins(call, x.shape, kernel)
    padded = x.pad(margins)
    if filler:
        padded = padded.plus_numbers(np.pad(np.zeros(x.shape), margins, constant_values=filler))
    return padded.map(lambda w: _cut(call, w, kernel)).rows(int(np.prod(kernel)))


def public_windows_of(call: Call, image: np.ndarray, filler: float = 0.0) -> np.ndarray:
    """`windows_of` public numbers."""
    kernel = tuple(call.attribute("kernel_shape"))
    padded = np.pad(image, _margins(call, image.shape, kernel), constant_values=filler)
    return np.ascontiguousarray(_cut(call, padded, kernel)).reshape(-1, int(np.prod(kernel)))
