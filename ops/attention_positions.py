"""Which queries attend to which keys: shapes, public masks, causal order, windows and padding."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from onnxpuma.ops.content import Content, content_of_node
from onnxpuma.ops.registry import Call, Use
from onnxpuma.ops.scores import Scores, scores_of


@dataclass(frozen=True)
class Heads:
    """The shapes of one attention; `keys` counts past keys too."""

    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    size: int
    value_size: int
    past: int

    @property
    def scores(self) -> tuple[int, int, int, int]:
        return self.batch, self.heads, self.queries, self.keys

    @property
    def context(self) -> int:
        """The number of elements in the output."""
        return self.batch * self.heads * self.queries * self.value_size


@lru_cache(maxsize=4)  # one call asks again and again
def shapes_of(call: Use) -> Heads:
    q, k, v = (call.given(i) for i in range(3))
    cache = call.operand(4)
    past = 0 if cache is None else cache.shape[2]
    if len(q.shape) == 4:
        batch, heads, queries, size = q.shape
        _, key_heads, keys, _ = k.shape
        return Heads(batch, heads, key_heads, queries, past + keys, size, v.shape[-1], past)
    heads, key_heads = call.attribute("q_num_heads"), call.attribute("kv_num_heads")
    batch, queries, width = q.shape
    keys = past + k.shape[1]
    return Heads(batch, heads, key_heads, queries, keys, width // heads, v.shape[-1] // key_heads, past)


def cap_of(call: Use) -> float:
    """The softcap; 0 where scores have none."""
    return float(call.attribute("softcap"))


def given_scale(call: Use) -> float:
    """The factor of q k'."""
    scale = call.attribute("scale")
    return float(scale) if scale is not None else shapes_of(call).size ** -0.5


def shown_scores(call: Call) -> int | None:
    """The kind of scores in the fourth output, None if it is unread; without softcap, kind 1 is kind 0."""
    if len(call.outputs) < 4 or not call.outputs[3].name:
        return None
    mode = int(call.attribute("qk_matmul_output_mode"))
    return 0 if mode == 1 and not cap_of(call) else mode


def attention_scores(call: Call, spread: float) -> Scores:
    """The scores of (batch, heads, queries, keys) that take part, and the public numbers added to them.

    spread: without those numbers, two scores of a row are closer than this.
    """
    s = shapes_of(call)
    mask, filled = call.operand(3), call.operand(6)
    known = tuple([None if o is None else o.content for o in (mask, filled)])
    return scores_of(_beside(_Masked(call), content_of_node(call.node), s, known), s.scores, spread)


@dataclass(frozen=True)
class _Masked:
    """A call that others stand for: those whose node, shapes and masks are alike."""

    call: Call = field(compare=False)


@lru_cache(maxsize=4)  # the layers of a model have one mask
def _beside(one: _Masked, node: Content, s: Heads, known: tuple[Content | None, ...]) -> np.ndarray | None:
    """The public numbers beside the scores; None for zeros. known: of the mask and the padding."""
    call = one.call
    beside = np.zeros((1, 1, 1, s.keys))
    operand = call.operand(3)
    if operand is not None and operand.seen is not None:  # late: the kernel computes all scores
        operand = None
    mask = None if operand is None else operand.beside if operand.secret else operand.value
    if mask is not None:
        if mask.shape[-1] < s.keys:  # the standard pads a short mask with excluded positions
            missing = s.keys - mask.shape[-1]
            fill = False if mask.dtype == bool else -np.inf
            mask = np.concatenate([mask, np.full((*mask.shape[:-1], missing), fill, mask.dtype)], axis=-1)
        beside = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
    elif operand is not None and operand.secret:
        beside[..., operand.shape[-1] :] = -np.inf
    beside = np.where(_in_order(call, s), beside, -np.inf)
    return beside if beside.any() else None


def planned_lengths(call: Call) -> np.ndarray | None:
    """The number of scores that take part in each row, counted without an array of scores; None if a mask is
    such an array."""
    mask = call.operand(3)
    if mask is not None and (not mask.secret or mask.beside is not None):
        return None
    s = shapes_of(call)
    first, end = _reach(call, s)
    if mask is not None:
        end = np.minimum(end, mask.shape[-1])
    rows = np.maximum(end - first, 0)  # (batch or 1, queries)
    return np.broadcast_to(rows[:, None], (s.batch, s.heads, s.queries)).reshape(-1)


def _reach(call: Call, s: Heads) -> tuple[np.ndarray, np.ndarray]:
    """The first key of each query and the key after its last, by causal order, windows and padding:
    (batch or 1, queries)."""
    offset, filled = np.full(1, s.past), call.public(6)
    if filled is not None:
        offset = filled.reshape(-1).astype(np.int64) - s.queries
    own = np.arange(s.queries)[None] + offset[:, None]
    left, right = call.attribute("left_window_size"), call.attribute("right_window_size")
    first = np.maximum(own - left, 0) if left >= 0 else np.zeros_like(own)
    end = np.full_like(own, s.keys)
    if call.attribute("is_causal"):
        end = np.minimum(end, own + 1)
    if right >= 0:
        end = np.minimum(end, own + right + 1)
    if filled is not None:
        end = np.minimum(end, filled.reshape(-1, 1).astype(np.int64))
    return first, end


def _in_order(call: Call, s: Heads) -> np.ndarray:
    """The positions left by causal order, windows and padding, (batch or 1, 1, queries, keys)."""
    first, end = _reach(call, s)
    keys = np.arange(s.keys)
    open_here = (keys >= first[..., None]) & (keys < end[..., None])
    return open_here[:, None]
