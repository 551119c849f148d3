"""Padding in front of a cache: a late mask, so that one plan serves a text while its cache grows by a block.

A decoder may fill its cache up to a length that stays the same for several tokens, and exclude the padding by
its mask (tasks/decoder.py). The scores of the padding are then computed like the others: each is replaced by
that of the last key, which counts, so that the maximum of a row stays what it is; its numerator is multiplied
by zero. All of this is local.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.forms import PublicWords, Sum3
from onnxpuma.mpc.protocols.pivots import runs
from onnxpuma.ops.attention_positions import shapes_of
from onnxpuma.ops.late import Given, Late, Shapes, is_late
from onnxpuma.ops.numerators import Powers
from onnxpuma.ops.registry import Call, Use
from onnxpuma.standard.mask_values import SURELY_MASKED
from onnxpuma.standard.padding import BLOCK

_MASK = 3


def _seen(node: Node, given: Given, shapes: Shapes) -> Hashable:
    """Whether a mask excludes fewer than BLOCK keys of each row, all in front, of whole blocks of keys. There
    is one query for each head, as for the next token."""
    (mask,), (q, k) = given, shapes[:2]
    windows = [node.attribute(name) for name in ("left_window_size", "right_window_size")]
    more = any(node.inputs[_MASK + 1 :]) or any(node.outputs[3:])
    if more or node.attribute("is_causal") or max(windows) >= 0 or q is None or k is None:
        return None
    if mask is None or not mask.size or mask.shape[-1] % BLOCK or (q[-2], k[-2]) != (1, mask.shape[-1]):
        return None
    kept = kept_keys(mask)
    if kept is None or not kept[..., BLOCK - 1 :].all() or (kept[..., :-1] > kept[..., 1:]).any():
        return None
    return "padded"


def kept_keys(mask: np.ndarray) -> np.ndarray | None:
    """Which keys a mask leaves; None if it does more than to exclude keys."""
    if mask.dtype == bool:
        return mask
    if not ((mask == 0) | (mask <= SURELY_MASKED)).all():
        return None
    return np.asarray(mask == 0)


def _words(use: Use) -> Sequence[PublicWords]:
    """One for a key that counts, zero for padding."""
    mask = use.public(_MASK)
    assert mask is not None
    return [PublicWords.of(np.asarray(kept_keys(mask)), use.ring)]


PADDED = Late((_MASK,), _seen, _words)


def is_padded(call: Use) -> bool:
    """Whether the mask is late."""
    return is_late(call, PADDED)


def levelled(scores: Sum3, counts: PublicWords) -> Sum3:
    """The scores, (batch, heads, 1, keys), those of padding as the last of their row."""
    last = scores[..., -1:]
    return (scores - last).times_public(counts) + last


def without_padding(
    parts: Sequence[Powers], call: Call, lengths: np.ndarray, counts: PublicWords
) -> list[Powers]:
    """The numerators of rows of these lengths, zero where padding is."""
    flat = counts.spread(shapes_of(call).scores)
    pieces = zip(parts, runs(lengths), strict=True)
    return [replace(p, shares=p.shares.times_public(flat[elements])) for p, (_, elements) in pieces]
