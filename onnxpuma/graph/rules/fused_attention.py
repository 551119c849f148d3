"""onnxruntime's Attention (with its projection) and MultiHeadAttention become the standard's Attention."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxpuma.graph.rules.fused import Conversion, NotConvertedError, Old, Writer
from onnxpuma.graph.rules.fused_heads import Heads, both, by_head, causal_mask, key_mask, within
from onnxpuma.graph.values import rank, static_dim


def projected(
    w: Writer,
    old: Old,
    x: ir.Value,
    weights: ir.Value,
    bias: ir.Value | None,
    mask: ir.Value | None,
    past: ir.Value | None,
    added: ir.Value | None,
) -> Sequence[ir.Value | None]:
    """(y, present): attention on x W + b, which is q, k and v, one after the other."""
    if old.attribute("do_rotary") or old.attribute("past_present_share_buffer"):
        raise NotConvertedError("rotation or a shared cache inside Attention is not supported")
    y = w.MatMul(x, weights)
    if bias is not None:
        y = w.Add(y, bias)
    sizes = old.attribute("qkv_hidden_sizes")
    if sizes is None:
        parts = w.Split(y, axis=-1, num_outputs=3, _outputs=3)
    else:
        parts = w.Split(y, w.ints(*sizes), axis=-1, _outputs=3)
    heads = int(old.attribute("num_heads"))
    three = Heads(w, parts[0], parts[1], parts[2], heads, heads)
    if past is not None:
        past_key, past_value = (w.Gather(past, w.constant(i), axis=0) for i in (0, 1))
        three.append_to(past_key, past_value)
    present = None
    if old.wants(1):
        three.split()
        present = w.Concat(*(w.Unsqueeze(t, w.ints(0)) for t in (three.k, three.v)), axis=0)
    return [_attend(w, old, three, x, mask, added, past is not None), present]


def _attend(
    w: Writer,
    old: Old,
    three: Heads,
    x: ir.Value,
    mask: ir.Value | None,
    added: ir.Value | None,
    past: bool,
) -> ir.Value:
    causal = bool(old.attribute("unidirectional"))
    keep = None
    if mask is not None:
        alone = old.node.op_type != "MultiHeadAttention"
        keep = key_mask(w, mask, w.number(x, 0), three.queries(), three.keys(), column_is_none=alone)
    joined = both(w, keep, added, old.attribute("mask_filter_value"))
    if causal and past:  # the standard's own flag aligns both axes at the first token
        joined, causal = within(w, causal_mask(w, three.queries(), three.keys()), joined), False
    return three.attend(joined, causal, old.attribute("scale"))


def _attention(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    old.refuse_inputs(past_sequence_length=6)
    return projected(w, old, old.given(0), old.given(1), old[2], old[3], old[4], old[5])


def _packed(w: Writer, x: ir.Value, count: int) -> list[ir.Value]:
    """(batch, n, heads, count, size) -> `count` tensors (batch, heads, n, size)"""
    parts = w.Split(x, axis=3, num_outputs=count, _outputs=count)
    return [w.Transpose(w.Squeeze(p, w.ints(3)), perm=[0, 2, 1, 3]) for p in parts]


def _read_three(w: Writer, old: Old, heads: int) -> Heads:
    q, k, v, bias = old.given(0), old[1], old[2], old[3]
    axes = [None if t is None else rank(t) for t in (q, k, v)]
    if axes[0] is None or (k is not None and axes[1] is None):
        raise NotConvertedError("the number of axes of its query or key is not known")
    if bias is not None:
        q, k, v = _with_bias(w, q, k, v, bias)
    if axes[0] == 5:
        q, k, v = _packed(w, q, 3)
        return Heads(w, q, k, v, heads, heads, four=True)
    if k is not None and axes[1] == 5:
        k, v = _packed(w, k, 2)
        return Heads(w, by_head(w, q, heads), k, v, heads, heads, four=True)
    if k is None or v is None:
        raise NotConvertedError("its key or value is missing")
    if axes[1] == 4:
        return Heads(w, by_head(w, q, heads), k, v, heads, heads, four=True)
    return Heads(w, q, k, v, heads, heads)


def _with_bias(
    w: Writer, q: ir.Value, k: ir.Value | None, v: ir.Value | None, bias: ir.Value
) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """The bias of the projection, which is that of q, k and v one after the other, added to each."""
    width, total = static_dim(q, -1), static_dim(bias, 0)
    if rank(q) != 3 or width is None or total is None or (k is not None and rank(k) == 5):
        raise NotConvertedError("it adds a bias to packed tensors, or the width of its query is not known")
    parts = w.Split(bias, w.ints(width, width, total - 2 * width), axis=0, _outputs=3)
    if k is None or v is None or rank(k) != 3:  # keys of an encoder, already projected: only q has a bias
        return w.Add(q, parts[0]), k, v
    return w.Add(q, parts[0]), w.Add(k, parts[1]), w.Add(v, parts[2])


def _multi_head(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    """(y, present key, present value)"""
    old.refuse_outputs(3)
    old.refuse_inputs(past_sequence_length=8, cache_indirection=9)
    three = _read_three(w, old, int(old.attribute("num_heads")))
    past_key, past_value = old[6], old[7]
    if past_key is not None and past_value is not None:
        three.append_to(past_key, past_value)
    if old.wants(1) or old.wants(2):
        three.split()
    y = _attend(w, old, three, old.given(0), old[4], old[5], past_key is not None)
    return [y, three.k, three.v] if three.four else [y, None, None]


CONVERSIONS: dict[str, Conversion] = {"Attention": _attention, "MultiHeadAttention": _multi_head}
