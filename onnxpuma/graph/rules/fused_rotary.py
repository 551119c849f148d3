"""onnxruntime's RotaryEmbedding and GroupQueryAttention, whose tables and lengths are public."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.fused import Conversion, NotConvertedError, Old, Writer
from onnxpuma.graph.rules.fused_heads import Heads, both, by_head
from onnxpuma.graph.values import rank, static_dim

_INT64 = int(ir.DataType.INT64)
_USUAL = {"smooth_softmax": (0, -1), "sliding_window_cache": (0,), "kv_cache_bit_width": (0,)}


def _rotary(w: Writer, old: Old) -> Sequence[ir.Value]:
    if old.attribute("is_packed_batching") or old.attribute("scale") != 1.0:
        raise NotConvertedError("a packed batch or a scale is not supported")
    x, positions, cos, sin = (old.given(i) for i in range(4))
    axes = rank(x)
    if axes is None or rank(positions) is None:
        raise NotConvertedError("the number of axes of its input or its positions is not known")
    if rank(positions) == 1:  # one number: where the sequence begins
        start = w.Cast(positions, to=_INT64)
        places = w.Add(w.count(w.number(x, 1 if axes == 3 else 2)), start)
        positions = w.Expand(w.Unsqueeze(places, w.ints(0)), w.Concat(w.number(x, 0), w.ints(1), axis=0))
    heads, size = old.attribute("num_heads"), old.attribute("rotary_embedding_dim")
    if axes == 3 and not heads:
        width, half = static_dim(x, -1), static_dim(cos, -1)
        if width is None or half is None:
            raise NotConvertedError("the width of its input is not known")
        heads = width // (2 * half)
    return [
        w.RotaryEmbedding(
            x,
            w.Gather(cos, positions, axis=0),
            w.Gather(sin, positions, axis=0),
            interleaved=old.attribute("interleaved"),
            num_heads=heads if axes == 3 else None,
            rotary_embedding_dim=size or None,
        )
    ]


def _three(w: Writer, old: Old, heads: int, key_heads: int) -> Heads:
    q, k, v = old.given(0), old[1], old[2]
    if k is not None and v is not None:
        q, k, v = by_head(w, q, heads), by_head(w, k, key_heads), by_head(w, v, key_heads)
    else:
        packed = by_head(w, q, heads + 2 * key_heads)
        q, k, v = w.Split(packed, w.ints(heads, key_heads, key_heads), axis=1, _outputs=3)
    return Heads(w, q, k, v, heads, key_heads, four=True)


def _caches(
    w: Writer, three: Heads, new: ir.Value, past_length: ir.Value, total: ir.Value, past: tuple[ir.Value, ...]
) -> None:
    """Put the caches before k and v: the new keys of a sequence follow its valid old ones."""
    room = w.number(past[0], 2)
    three.append_to(*past)
    after = w.Unsqueeze(past_length, w.ints(1))  # (batch, 1)
    slots = w.Unsqueeze(w.count(w.Add(room, new)), w.ints(0))
    behind = w.Add(slots, w.Sub(room, after))
    end = w.Less(slots, w.Add(after, new))
    source = w.Where(w.Less(slots, after), slots, w.Where(end, behind, w.Sub(slots, new)))
    index = w.Unsqueeze(source, w.ints(2))  # (batch, past + n, 1)
    longest = w.Max(room, w.Reshape(w.Cast(total, to=_INT64), w.ints(1)))

    def placed(x: ir.Value) -> ir.Value:
        by_slot = w.Transpose(x, perm=[0, 2, 1, 3])
        moved = w.GatherND(by_slot, index, batch_dims=1)
        cut = w.Slice(moved, w.ints(0), longest, w.ints(1))
        turned: ir.Value = w.Transpose(cut, perm=[0, 2, 1, 3])
        return turned

    three.k, three.v = placed(three.k), placed(three.v)


def _group_query(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    """(y, present key, present value).

    seqlens_k (the last position of each sequence) and the total length are public. In a batch of sequences of
    unequal length, positions after the end of one are never read, as in onnxruntime.
    """
    old.refuse_outputs(3)
    old.refuse_inputs(head_sink=11, k_scale=12, v_scale=13)
    for name, usual in _USUAL.items():
        if old.attribute(name) not in usual:
            raise NotConvertedError(f"{name} is not supported")
    heads, key_heads = int(old.attribute("num_heads")), int(old.attribute("kv_num_heads"))
    three = _three(w, old, heads, key_heads)
    past_key, past_value = old[3], old[4]
    if old[14] is not None and old[15] is not None:
        epsilon = old.attribute("qk_norm_epsilon")
        three.q = w.RMSNormalization(three.q, old[14], axis=-1, epsilon=epsilon)
        three.k = w.RMSNormalization(three.k, old[15], axis=-1, epsilon=epsilon)
    new = three.queries()
    last = w.Cast(w.Reshape(old.given(5), w.ints(-1)), to=_INT64)
    past_length = w.Max(w.Sub(w.Add(last, w.ints(1)), new), w.ints(0))
    of_queries = w.Add(w.Unsqueeze(w.count(new), w.ints(0)), w.Unsqueeze(past_length, w.ints(1)))
    if old.attribute("do_rotary"):
        positions = of_queries if old[9] is None else old[9]
        tables = [w.Gather(old.given(i), positions, axis=0) for i in (7, 8)]
        half = static_dim(old.given(7), -1)  # of the rotated part: a head may be wider
        how = {
            "interleaved": old.attribute("rotary_interleaved"),
            "rotary_embedding_dim": 2 * half if half is not None else None,
        }
        three.q = w.RotaryEmbedding(three.q, *tables, **how)
        three.k = w.RotaryEmbedding(three.k, *tables, **how)
    if past_key is not None and past_value is not None:
        _caches(w, three, new, past_length, old.given(6), (past_key, past_value))
    window = old.attribute("local_window_size")
    causal = bool(old.attribute("causal"))
    keep = None
    if past_key is not None or window > 0:
        keys, queries = w.Unsqueeze(w.count(three.keys()), w.ints(0, 1)), w.Unsqueeze(of_queries, w.ints(2))
        whole = w.Unsqueeze(last, w.ints(1, 2))
        keep = w.LessOrEqual(keys, queries if causal else whole)
        if window > 0:
            keep = w.And(keep, w.Less(w.Sub(queries, w.ints(window)), keys))
        keep, causal = w.Unsqueeze(keep, w.ints(1)), False
    mask = both(w, keep, old[10], -np.inf)
    y = three.attend(mask, causal, old.attribute("scale"), old.attribute("softcap"))
    return [y, three.k, three.v]


CONVERSIONS: dict[str, Conversion] = {"RotaryEmbedding": _rotary, "GroupQueryAttention": _group_query}
