"""The common part of onnxruntime's attention operators: heads, the joined cache, and masks of every form.

Each operator becomes the standard's Attention. A cache stands outside it, as a Concat along the keys; a mask
is one tensor, boolean where that suffices, made from the public lengths or 0/1 masks that the operator takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.fused import NotConvertedError, Writer
from onnxpuma.graph.values import rank, static_dim

_BOOL, _INT64 = int(ir.DataType.BOOL), int(ir.DataType.INT64)


@dataclass
class Heads:
    """Query, key and value of one attention, each (batch, n, heads * size) or (batch, heads, n, size)."""

    w: Writer
    q: ir.Value
    k: ir.Value
    v: ir.Value
    heads: int
    key_heads: int
    four: bool = False
    """True when q, k and v have four axes."""

    def split(self) -> None:
        """Give q, k and v an axis for the heads, before n."""
        if not self.four:
            self.q = by_head(self.w, self.q, self.heads)
            self.k, self.v = (by_head(self.w, x, self.key_heads) for x in (self.k, self.v))
            self.four = True

    def append_to(self, past_key: ir.Value, past_value: ir.Value) -> None:
        """Put a cache (batch, heads, n, size) before k and v."""
        self.split()
        self.k = self.w.Concat(past_key, self.k, axis=2)
        self.v = self.w.Concat(past_value, self.v, axis=2)

    def queries(self) -> ir.Value:
        return self.w.number(self.q, 2 if self.four else 1)

    def keys(self) -> ir.Value:
        return self.w.number(self.k, 2 if self.four else 1)

    def attend(
        self, mask: ir.Value | None, causal: bool, scale: float | None, softcap: float = 0.0
    ) -> ir.Value:
        """The result, (batch, n, heads * size). scale: None or 0 for the usual one."""
        w = self.w
        if mask is not None:  # onnxruntime wants a row for each query
            one = w.ints(1)
            mask = w.Expand(mask, w.Concat(one, one, self.queries(), one, axis=0))
        inputs = [self.q, self.k, self.v] if mask is None else [self.q, self.k, self.v, mask]
        options = {
            "scale": float(scale) if scale else None,
            "is_causal": 1 if causal else None,
            "softcap": float(softcap) if softcap else None,
        }
        if not self.four:
            y: ir.Value = w.Attention(*inputs, q_num_heads=self.heads, kv_num_heads=self.key_heads, **options)
            return y
        y = w.Transpose(w.Attention(*inputs, **options), perm=[0, 2, 1, 3])
        joined: ir.Value = w.Reshape(y, w.ints(0, 0, -1))
        return joined


def by_head(w: Writer, x: ir.Value, heads: int) -> ir.Value:
    """(batch, n, heads * size) -> (batch, heads, n, size)"""
    turned: ir.Value = w.Transpose(w.Reshape(x, w.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])
    return turned


def causal_mask(w: Writer, queries: ir.Value, keys: ir.Value) -> ir.Value:
    """(queries, keys), True where the key is not after the query; the last key belongs to the last query."""
    columns = w.count(keys)
    first = w.Sub(keys, queries)
    rows = w.Add(w.count(queries), first)
    mask: ir.Value = w.LessOrEqual(w.Unsqueeze(columns, w.ints(0)), w.Unsqueeze(rows, w.ints(1)))
    return mask


def key_mask(
    w: Writer,
    mask: ir.Value,
    batch: ir.Value,
    queries: ir.Value,
    keys: ir.Value,
    column_is_none: bool = False,
) -> ir.Value | None:
    """Which keys take part, as a boolean (batch, 1, 1 or queries, keys).

    `mask` is 0/1 of shape (batch, keys), (batch, queries, keys) or (batch, 1, longest, longest), of which the
    first `keys` columns count, and of the first `keys` rows the last `queries`. Or it gives counts: (batch,)
    the number of keys, (2 batch,) where they end and then where they begin, (3 batch + 2,) the number of keys
    and running sums that are not used here. column_is_none: a mask of one column, whatever its number, is no
    mask, as in onnxruntime's Attention.
    """
    axes = rank(mask)
    if axes is None:
        raise NotConvertedError("the number of axes of its mask is not known")
    if axes == 2 or axes == 3:
        given = w.Cast(mask, to=_BOOL)
        columns = static_dim(mask, -1)
        if column_is_none and axes == 2 and columns in (None, 1):
            if columns == 1:
                return None
            given = w.Or(given, w.Equal(w.number(mask, 1), w.ints(1)))
        keep: ir.Value = w.Unsqueeze(given, w.ints(1, 2) if axes == 2 else w.ints(1))
        return keep
    if axes == 4:
        ends = w.Concat(keys, keys, axis=0)
        starts = w.Concat(w.Sub(keys, queries), w.ints(0), axis=0)
        part: ir.Value = w.Cast(w.Slice(mask, starts, ends, w.ints(2, 3)), to=_BOOL)
        return part
    if axes != 1:
        raise NotConvertedError(f"a mask of {axes} axes is not supported")
    counts = w.Cast(mask, to=_INT64)
    none = w.ConstantOfShape(batch, value=ir.tensor(np.zeros(1, np.int64)))
    counts = w.Concat(counts, none, axis=0)
    two = w.Mul(batch, w.ints(2))
    end = w.Unsqueeze(w.Slice(counts, w.ints(0), batch), w.ints(1))
    begins = w.Cast(w.Equal(w.number(mask, 0), two), to=_INT64)
    start = w.Unsqueeze(w.Mul(w.Slice(counts, batch, two), begins), w.ints(1))
    places = w.Unsqueeze(w.count(keys), w.ints(0))
    keep = w.And(w.Less(places, end), w.GreaterOrEqual(places, start))
    wide: ir.Value = w.Unsqueeze(keep, w.ints(1, 2))
    return wide


def both(w: Writer, keep: ir.Value | None, added: ir.Value | None, low: float) -> ir.Value | None:
    """One mask from a boolean one and one that is added to the scores; False becomes `low`."""
    if keep is None or (added is None and np.isinf(low)):
        return added if keep is None else keep
    masked: ir.Value = w.Where(keep, w.constant(np.float32(0)), w.constant(np.float32(low)))
    return masked if added is None else w.Add(added, masked)


def within(w: Writer, allowed: ir.Value, mask: ir.Value | None) -> ir.Value:
    """An additive mask, with minus infinity where `allowed` is False."""
    if mask is None:
        return allowed
    value: ir.Value = w.Where(allowed, mask, w.constant(np.float32(-np.inf)))
    return value
