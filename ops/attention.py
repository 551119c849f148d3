"""Scaled dot-product attention as one kernel: scores never leave the width that softmax reads.

The reciprocal of a row's sum is applied after the product with V: (e V) / sum costs (rows, d) elements, where
(e / sum) V would cost (rows, keys). Positions that a public mask excludes are never computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, PublicWords, Replicated, Shares, Sum3, joined, zeros
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.fourier import all_series
from onnxpuma.mpc.protocols.linear import matmul
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.smooth import activation, activation_cost
from onnxpuma.ops.attention_division import context_costs, context_of
from onnxpuma.ops.attention_left import scores_a_row, scores_apart, scores_left
from onnxpuma.ops.attention_lengths import lengths
from onnxpuma.ops.attention_mask import mask_refusal, secret_mask, secret_mask_cost
from onnxpuma.ops.attention_padding import PADDED, levelled, without_padding
from onnxpuma.ops.attention_positions import Heads, cap_of, shapes_of, shown_scores
from onnxpuma.ops.attention_reading import numerator_bits, reading_of
from onnxpuma.ops.attention_scale import (
    accepted,
    is_early,
    scale_bits,
    scale_of,
    scaled,
    score_format,
    spread_read,
)
from onnxpuma.ops.attention_scores import plain_scores, score_spreads
from onnxpuma.ops.beside import too_far, whole
from onnxpuma.ops.elementwise import add_forms
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.late import LateValue
from onnxpuma.ops.lengths import largest_score
from onnxpuma.ops.limits import Arrays, Limit
from onnxpuma.ops.numerators import all_powers, all_powers_cost
from onnxpuma.ops.registry import Call, Use, operator
from onnxpuma.ops.shares import as_shares, in_one_ring
from onnxpuma.ops.softmax import left_out, spread_limit
from onnxpuma.ops.spread import shift_cost, truncated
from onnxpuma.standard.mask_values import FAR

F = TypeVar("F", bound=Form)


def _refuse(call: Call) -> str | None:
    if call.secret(6):
        return "its input nonpad_kv_seqlen is secret, but the lengths decide which scores are computed"
    if mask_refusal(call):
        return mask_refusal(call)
    if scale_of(call) <= 0:
        return "its scale is not positive"
    if any(o.beside is not None for place, o in enumerate(call.inputs) if o is not None and place != 3):
        return too_far(replace(call, inputs=tuple(o for p, o in enumerate(call.inputs) if p != 3)), FAR)
    if shown_scores(call) in (1, 2) and scores_left(call).kept is not None:
        return "it outputs its scores, which are minus infinity at the positions that its mask excludes"
    return None


def _shown_cost(call: Call, size: int) -> Cost:
    mode, cap = shown_scores(call), cap_of(call)
    if mode is None:
        return Cost()
    form: type = Sum3
    extra = factor_bits(cap) if cap else 0
    fraction = 2 * call.reals.fraction + extra
    if not is_early(call):
        fraction += scale_bits(call)
    if mode == 3:
        how = reading_of(call)
        fraction = how.numerator + how.sum_read(call.ring)
    elif mode and cap:
        form, fraction = Replicated, call.reals.fraction + extra
    return shift_cost(size, fraction - call.reals.fraction, call.ring, form)


def _cost(call: Call) -> Cost:
    s = shapes_of(call)
    lengths = scores_a_row(call)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return Cost()
    total = secret_mask_cost(call)
    if is_early(call):
        by = factor_bits(scale_of(call))
        total = total + shift_cost(call.given(0).size, by, call.ring, Replicated)
    form: type = Sum3
    if cap_of(call):
        tanh, held = all_series()["tanh"], score_format(call)
        total = total + over_parts(int(lengths.sum()), lambda n: activation_cost(tanh, n, held, call.reals))
        form = Replicated
    how = reading_of(call)
    total = total + (all_powers_cost(lengths, form, numerator_bits(call), how) | _values_cost(call))
    shown = _shown_cost(call, int(np.prod(s.scores, dtype=np.int64)))
    weighing, dividing = context_costs(call)
    return total + weighing + (dividing | shown)


def _values_cost(call: Call) -> Cost:
    """Of the truncation of values that arrive as a product."""
    v = call.given(2)
    if not v.secret or v.form is Replicated:
        return Cost()
    return shift_cost(v.size, v.fraction - call.reals.fraction, v.format.bits, v.form, call.ring)


def _by_heads(x: F, count: int) -> F:
    """(batch, n, count * size) -> (batch, count, n, size); four axes stay."""
    if len(x.shape) == 4:
        return x
    return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)


def _after(party: Party, past: LateValue, x: Replicated) -> Replicated:
    """The cache, followed by the new part."""
    return x if past is None else joined([as_shares(party, past, x.format), x], axis=2)


def _scores(party: Party, call: Call, q: Replicated, k: Replicated) -> Protocol[Sum3]:
    scale = scale_of(call)
    if is_early(call):
        q, scale = (yield from truncated(party, times_numbers(q, scale))), 1.0
    return scaled(matmul(party, *in_one_ring(q, k.transpose(0, 1, 3, 2))), scale)


def _capped(party: Party, flat: Sum3, cap: float) -> Protocol[Replicated]:
    """cap tanh(scores / cap), at 18 fraction bits plus the cap's own."""
    series = all_series()["tanh"]
    rest = flat.format.at(RESTING.fraction)
    y = yield from spread(party, flat, lambda part, pivot: activation(party, part, series, pivot, rest))
    return times_numbers(y, cap)


def _limits(call: Call) -> tuple[Limit, ...]:
    scale, cap = scale_of(call), cap_of(call) or 1.0
    below = score_format(call).largest

    def size(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
        return np.abs(plain_scores(call, inputs, scale))

    def apart_in_rows(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
        return score_spreads(call, inputs, scale)

    stays, needs = (lambda call: largest_score(call) / cap), (lambda call: lengths(call, scale, below))
    largest = Limit("|scale Q K'|", size, below, stays=stays, needs=lambda call: needs(call)[1:])
    return largest, spread_limit(spread_read(call), apart_in_rows, scores_apart, needs)


def _defers(call: Use, index: int) -> bool:
    """Values are truncated beside the numerators, unless they join a cache."""
    kept = len(call.node.outputs) > 2 and call.node.outputs[2]
    return index == 2 and not kept and not call.present(5)


@operator(
    "Attention",
    cost=_cost,
    defers=_defers,
    accepts=accepted,
    follows=True,
    refuse=_refuse,
    limits=_limits,
    tolerance=4e-4,
    beside=lambda call: [None] * len(call.outputs),
    reaches=True,
    grows=lambda call: left_out(shapes_of(call).keys),
    error="1e-4 of the largest value, with n keys n 8e-7 of it; with softcap 1e-3 softcap more in each score",
    integers=True,
    late=PADDED,
)
def attention(party: Party, call: Call, *inputs: LateValue) -> Protocol[Sequence[Form]]:
    """softmax(scale Q K' + mask) V; a row that a public mask excludes entirely gives zeros.

    A secret mask is boolean, or consists of numbers down to -2^23.
    """
    given = [v if place == 3 else whole(v, call.operand(place)) for place, v in enumerate(inputs)]
    given += [None] * (7 - len(given))
    s = shapes_of(call)
    flat_heads = len(call.given(0).shape) == 3
    q, k = (as_shares(party, value, call.reals) for value in given[:2])
    q = _by_heads(q, s.heads)
    k = _after(party, given[4], _by_heads(k, s.key_heads))
    v: Shares
    if isinstance(given[2], Sum3):
        v = _by_heads(given[2], s.key_heads)
    else:
        v = _after(party, given[5], _by_heads(as_shares(party, given[2], call.reals), s.key_heads))
    result, shown = yield from _attend(party, call, s, q, k, v, given[3])
    if flat_heads:
        result = result.transpose(0, 2, 1, 3).reshape(s.batch, s.queries, -1)
    return [result, k, v, shown][: len(call.outputs)]


def _attend(
    party: Party, call: Call, s: Heads, q: Replicated, k: Replicated, v: Shares, mask: LateValue
) -> Protocol[tuple[Replicated, Replicated]]:
    """The context, and the scores of the fourth output (the context again if no node reads them)."""
    lengths = (left := scores_left(call)).lengths
    kept = lengths > 0
    if not kept.any():
        empty = zeros(party.index, (s.batch, s.heads, s.queries, s.value_size), call.outputs[0].resting)
        return empty, zeros(party.index, s.scores, call.reals)
    repeated = s.heads // s.key_heads
    scores = yield from _scores(party, call, q.contiguous(), k.repeat(repeated, axis=1))
    if isinstance(mask, PublicWords):
        scores = levelled(scores, mask)
    standing = left.places
    places = slice(None) if standing is None else standing
    cap = cap_of(call)
    shown: Shares = times_numbers(scores, cap) if cap else scores
    computed = scores.flat()[places]
    flat: Shares = (yield from _capped(party, computed, cap)) if cap else computed
    if shown_scores(call) == 1:
        shown = flat.reshape(s.scores)
    if isinstance(mask, Replicated):
        mask = yield from secret_mask(party, call, mask)
        missing = s.keys - mask.shape[-1]  # a short mask excludes the keys beyond its end
        beside = [(0, 0)] * (len(mask.shape) - 1) + [(0, missing)]
        flat = add_forms(flat, mask.pad(beside).broadcast_to(s.scores).reshape(-1)[places], 1)
    if left.drowned is not None:
        flat = flat.zeroed(left.drowned.reshape(-1)[places])
    if left.added is not None:
        flat = flat.plus_numbers(left.added.reshape(-1)[places])
    if shown_scores(call) == 2:
        shown = flat.reshape(s.scores)
    beside_it = truncated(party, v, call.reals)
    before: list[Protocol[Any]] = [
        all_powers(party, flat, lengths[kept], numerator_bits(call), reading_of(call)),
        beside_it,
    ]
    parts, values = yield from parallel(before)
    if isinstance(mask, PublicWords):
        parts = without_padding(parts, call, lengths[kept], mask)
    return (yield from context_of(party, call, parts, standing, values.repeat(repeated, axis=1), shown))
