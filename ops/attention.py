"""Scaled dot-product attention as one kernel: scores never leave the width that softmax reads.

The reciprocal of a row's sum is applied after the product with V: (e V) / sum, on (rows, d) elements and
not on (rows, keys). Positions that the public mask excludes are never computed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import matmul, multiply
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import resolve_cost
from onnxpuma.mpc.words import encode
from onnxpuma.ops.elementwise import as_words
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.softmax import (
    NUMERATOR,
    SUM_READ,
    all_numerators,
    all_numerators_cost,
    row_reciprocals,
    row_reciprocals_cost,
)
from onnxpuma.ops.spread import over_parts, truncated

MASKED_BELOW = -1e4  # a public addend below it excludes its position
SCALE_BITS = 14  # significant bits of a scale that is not a power of two


@dataclass(frozen=True)
class Heads:
    """Shapes of one attention: batch, query heads, key heads, queries, keys, head sizes."""

    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    size: int
    value_size: int


def shapes_of(call: Call) -> Heads:
    q, k, v = (call.given(i) for i in range(3))
    if len(q.shape) == 4:
        batch, heads, queries, size = q.shape
        _, key_heads, keys, _ = k.shape
        return Heads(batch, heads, key_heads, queries, keys, size, v.shape[-1])
    heads, key_heads = call.attribute("q_num_heads"), call.attribute("kv_num_heads")
    batch, queries, width = q.shape
    return Heads(batch, heads, key_heads, queries, k.shape[1], width // heads, v.shape[-1] // key_heads)


def allowed_positions(call: Call) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(mask, bias) over (batch, heads, queries, keys): which take part (None: all), what is added."""
    s = shapes_of(call)
    shape = (s.batch, s.heads, s.queries, s.keys)
    allowed: np.ndarray | None = None
    bias: np.ndarray | None = None
    mask = call.public(3)
    if mask is not None:
        if mask.shape[-1] < s.keys:  # the standard pads a short mask with excluded positions
            missing = s.keys - mask.shape[-1]
            fill = False if mask.dtype == bool else -np.inf
            mask = np.concatenate([mask, np.full((*mask.shape[:-1], missing), fill, mask.dtype)], axis=-1)
        if mask.dtype == bool:
            allowed = np.broadcast_to(mask, shape)
        else:
            real = mask.astype(np.float64)
            allowed = np.broadcast_to(real > MASKED_BELOW, shape)
            rest = np.where(real > MASKED_BELOW, real, 0.0)
            bias = np.broadcast_to(rest, shape) if np.any(rest) else None
    if call.attribute("is_causal", 0):
        causal = np.tri(s.queries, s.keys, dtype=bool)
        allowed = np.broadcast_to(causal, shape) if allowed is None else allowed & causal
    if allowed is not None and allowed.all():
        allowed = None
    return allowed, bias


def _lengths(call: Call, allowed: np.ndarray | None) -> np.ndarray:
    s = shapes_of(call)
    if allowed is None:
        return np.full(s.batch * s.heads * s.queries, s.keys)
    return np.count_nonzero(allowed, axis=-1).reshape(-1)


def _refuse(call: Call) -> str | None:
    for index, name in ((4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")):
        if call.present(index):
            return f"its input {name} is not supported: keep the cache outside, as Concat"
    if call.secret(3):
        return "its mask is secret"
    if call.attribute("softcap", 0.0):
        return "softcap is not supported"
    if len(call.outputs) > 1 and any(o.name for o in call.outputs[1:]):
        return "only its first output is supported"
    if not all(call.secret(i) for i in range(3)):
        return "one of query, key and value is public"
    return None


def scale_of(call: Call) -> float:
    scale = call.attribute("scale", None)
    return float(scale) if scale is not None else shapes_of(call).size ** -0.5


def scaled(scores: Sum3, scale: float) -> Sum3:
    """scores * scale: a power of two only moves the point, otherwise SCALE_BITS bits of it multiply."""
    exponent = int(np.floor(np.log2(scale)))
    if scale == 2.0**exponent:
        return Sum3(scores.party, scores.words, scores.bits, scores.fraction - exponent)
    bits = SCALE_BITS - 1 - exponent
    return scores.times(as_words(np.rint(np.float64(scale) * 2.0**bits)), bits)


def _cost(call: Call) -> Cost:
    s = shapes_of(call)
    allowed, _ = allowed_positions(call)
    lengths = _lengths(call, allowed)
    lengths = lengths[lengths > 0]
    context = s.batch * s.heads * s.queries * s.value_size
    if not len(lengths):
        return Cost()
    product = over_parts(context, lambda n: resolve_cost(n, NUMERATOR))
    weights = all_numerators_cost(lengths, Sum3)
    inverse = row_reciprocals_cost(len(lengths), s.keys)
    return weights + (product | inverse) + over_parts(context, lambda n: resolve_cost(n, SUM_READ))


@operator(
    "Attention", cost=_cost, refuse=_refuse, secret="query, key, value", error="1e-4 of the largest value"
)
def attention(
    party: Party, call: Call, q: Replicated, k: Replicated, v: Replicated, *_: Value
) -> Protocol[Sequence[Form]]:
    """softmax(scale Q K' + mask) V. |scale Q K'| < 512; a row with no allowed position gives zeros."""
    s = shapes_of(call)
    flat_heads = len(q.shape) == 3

    def heads(x: Replicated, count: int) -> Replicated:  # (batch, heads, n, size)
        if flat_heads:
            x = x.map(lambda w: w.reshape(*w.shape[:2], count, -1).transpose(0, 2, 1, 3))
        if count < s.heads:
            x = x.map(lambda w: np.repeat(w, s.heads // count, axis=1))
        return x.map(np.ascontiguousarray)

    q, k, v = heads(q, s.heads), heads(k, s.key_heads), heads(v, s.key_heads)
    allowed, bias = allowed_positions(call)
    scores = scaled(matmul(party, q, k.map(lambda w: w.swapaxes(-1, -2))), scale_of(call))
    if bias is not None:
        scores = scores.plus(encode(bias, scores.fraction))
    lengths = _lengths(call, allowed)
    kept = lengths > 0
    if allowed is None:
        flat = scores.map(lambda w: np.ascontiguousarray(w).reshape(-1))
    else:
        places = np.flatnonzero(allowed)
        flat = scores.map(lambda w: w.reshape(-1)[places])
    e = yield from all_numerators(party, flat, lengths[kept])

    def dense(words: np.ndarray) -> np.ndarray:
        if allowed is None:
            return words.reshape(scores.shape)
        out = np.zeros(scores.size, words.dtype)
        out[places] = words
        return out.reshape(scores.shape)

    weights = e.map(dense)  # (batch, heads, queries, keys)
    sums = weights.map(lambda w: w.sum(axis=-1, dtype=w.dtype).reshape(-1)[kept])
    context, inverse = yield from parallel(
        [truncated(party, matmul(party, weights, v)), row_reciprocals(party, sums, s.keys)]
    )

    def by_row(words: np.ndarray) -> np.ndarray:
        out = np.zeros(kept.shape, words.dtype)
        out[kept] = words
        return out.reshape(*scores.shape[:3], 1)

    result = yield from truncated(party, multiply(party, context, inverse.map(by_row)))
    if flat_heads:
        result = result.map(lambda w: w.transpose(0, 2, 1, 3).reshape(s.batch, s.queries, -1))
    return [result]
