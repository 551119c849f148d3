"""onnxruntime's normalisations, alone and after a sum, and the embedding that ends in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.fused import Conversion, Old, Writer


def _layer_norm(w: Writer, old: Old) -> Sequence[ir.Value]:
    axis, epsilon = old.attribute("axis"), old.attribute("epsilon")
    inputs = [v for v in (old.given(0), old.given(1), old[2]) if v is not None]
    if old.wants(1) or old.wants(2):
        found: Sequence[ir.Value] = w.LayerNormalization(*inputs, axis=axis, epsilon=epsilon, _outputs=3)
        return found
    return [w.LayerNormalization(*inputs, axis=axis, epsilon=epsilon)]


def _simplified(w: Writer, old: Old) -> Sequence[ir.Value]:
    old.refuse_outputs(1)
    axis, epsilon = old.attribute("axis"), old.attribute("epsilon")
    return [w.RMSNormalization(old.given(0), old.given(1), axis=axis, epsilon=epsilon)]


def _sum(w: Writer, old: Old, bias: ir.Value | None) -> ir.Value:
    total: ir.Value = w.Add(old.given(0), old.given(1))
    return total if bias is None else w.Add(total, bias)


def _skip_layer_norm(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    """(y, -, -, sum) with y = LayerNormalization(input + skip + bias)."""
    old.refuse_outputs(1, 2)
    total = _sum(w, old, old[4])
    inputs = [v for v in (old.given(2), old[3]) if v is not None]
    y = w.LayerNormalization(total, *inputs, axis=-1, epsilon=old.attribute("epsilon"))
    return [y, None, None, total]


def _skip_simplified(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    old.refuse_outputs(1, 2)
    total = _sum(w, old, old[3])
    y = w.RMSNormalization(total, old.given(2), axis=-1, epsilon=old.attribute("epsilon"))
    return [y, None, None, total]


def embedding(
    w: Writer,
    old: Old,
    words: ir.Value,
    places: ir.Value,
    segments: ir.Value | None,
    scale: ir.Value,
    shift: ir.Value,
    mask: ir.Value | None,
    positions: ir.Value | None,
) -> Sequence[ir.Value | None]:
    """(y, lengths, sum) with y = LayerNormalization(words + positions + segments)."""
    ids, segment_ids = old.given(0), old[1]
    total = w.Gather(words, ids, axis=0)
    if positions is None:
        zero, axis = w.ints(0), w.ints(0)
        total = w.Add(total, w.Slice(places, zero, w.number(ids, 1), axis))
    else:
        total = w.Add(total, w.Gather(places, positions, axis=0))
    if segments is not None and segment_ids is not None:
        total = w.Add(total, w.Gather(segments, segment_ids, axis=0))
    y = w.LayerNormalization(total, scale, shift, axis=-1, epsilon=old.attribute("epsilon"))
    lengths = None
    if old.wants(1):
        if mask is None:
            zeros = ir.tensor(np.zeros(1, np.int32))
            lengths = w.ConstantOfShape(w.number(ids, 0), value=zeros)
        else:
            ones = w.Equal(mask, w.constant(np.int32(1)))
            counted = w.ReduceSum(w.Cast(ones, to=int(ir.DataType.INT64)), w.ints(1), keepdims=0)
            lengths = w.Cast(counted, to=int(ir.DataType.INT32))
    return [y, lengths, total]


def _embed_layer_norm(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    tables = (old.given(2), old.given(3), old[4])
    return embedding(w, old, *tables, old.given(5), old.given(6), old[7], old[8])


CONVERSIONS: dict[str, Conversion] = {
    "LayerNormalization": _layer_norm,
    "SimplifiedLayerNormalization": _simplified,
    "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_simplified,
    "EmbedLayerNormalization": _embed_layer_norm,
}
