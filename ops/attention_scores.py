"""The scores of an attention on plain values: their size, and their distances in a row."""

from __future__ import annotations

import numpy as np

from onnxpuma.ops.attention_mask import mask_reach
from onnxpuma.ops.attention_padding import is_padded, kept_keys
from onnxpuma.ops.attention_positions import attention_scores, cap_of, shapes_of
from onnxpuma.ops.limits import Arrays
from onnxpuma.ops.registry import Call
from onnxpuma.ops.scores import SPREAD, spreads
from onnxpuma.standard.mask_values import MOST_REACH


def plain_scores(call: Call, inputs: Arrays, scale: float) -> np.ndarray:
    """scale Q K' without a mask, (batch, heads, queries, keys)."""
    s = shapes_of(call)

    def heads(x: np.ndarray, count: int) -> np.ndarray:
        return x if x.ndim == 4 else x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)

    q, k = (np.asarray(inputs[i], np.float64) for i in (0, 1))
    keys = heads(k, s.key_heads)
    if len(inputs) > 4 and inputs[4] is not None:
        keys = np.concatenate([inputs[4], keys], axis=2)
    keys = np.repeat(keys, s.heads // s.key_heads, axis=1)
    return np.asarray(scale * heads(q, s.heads) @ keys.swapaxes(-1, -2))


def score_spreads(call: Call, inputs: Arrays, scale: float) -> np.ndarray:
    """The largest distance between scores of each row: of those that take part, with their public addends."""
    scores = plain_scores(call, inputs, scale)
    cap = cap_of(call)
    if cap:
        scores = cap * np.tanh(scores)
    if is_padded(call):
        scores = np.where(np.asarray(kept_keys(np.asarray(inputs[3]))), scores, scores[..., -1:])
    reach = mask_reach(call)
    left = attention_scores(call, call.bound("spread", SPREAD) + reach)
    if len(inputs) > 3 and call.secret(3):
        given = np.asarray(inputs[3])
        mask = np.where(given, 0.0, -reach) if given.dtype == bool else np.maximum(given, -MOST_REACH)
        missing = scores.shape[-1] - mask.shape[-1]
        scores = scores + np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)])
    elif left.added is not None:
        scores = scores + left.added
    return spreads(scores, left.kept)
