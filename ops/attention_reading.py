"""How the scores of an attention are read: the fastest of several ways on the network of the plan."""

from __future__ import annotations

import math
from functools import lru_cache

from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.protocols.truncate import resolve_cost
from onnxpuma.ops.attention_left import scores_a_row
from onnxpuma.ops.attention_positions import cap_of, shapes_of, shown_scores
from onnxpuma.ops.attention_scale import score_format, spread_read
from onnxpuma.ops.factors import factor_bits
from onnxpuma.ops.lengths import head_length
from onnxpuma.ops.numerators import fastest_reading, powers_cost
from onnxpuma.ops.registry import Call
from onnxpuma.ops.score_reading import Reading, histograms

_MARGIN = 1.02  # for the errors of numerators and values
_LARGEST_SUM = 2.0**17  # of fine numerators times values: their words stay below 2^61


@lru_cache(maxsize=4)
def reading_of(call: Call) -> Reading:
    """The fastest way to read the scores."""
    cap, lengths = cap_of(call), scores_a_row(call)
    form, format = (Replicated, call.reals.finer(factor_bits(cap))) if cap else (Sum3, score_format(call))
    fine = _largest_sum(call) < _LARGEST_SUM
    spread = spread_read(call)
    others, lengths = histograms(spread, format, call.ring, fine), lengths[lengths > 0]
    return fastest_reading(call.network, Reading(spread), others, lengths, form, call.ring)


def _largest_sum(call: Call) -> float:
    """The largest sum of numerators times values; numerators are below one."""
    return _MARGIN * head_length(call, 2) * shapes_of(call).keys + 1.0


@lru_cache(maxsize=4)
def numerator_bits(call: Call) -> int:
    """Bits of the ring of the numerators: the smallest that holds their products with the values and saves
    bytes, as products in it are truncated to the full ring; the full one where the weights are an output."""
    most, full, how, s = _largest_sum(call), call.ring, reading_of(call), shapes_of(call)
    if shown_scores(call) == 3 or most == math.inf:
        return full
    least = how.numerator + call.reals.fraction + 2 + math.ceil(math.log2(most))
    if least >= full:
        return full
    elements = int(scores_a_row(call).sum())

    def bits(ring: int) -> int:
        shift = how.numerator - how.more
        made = powers_cost(elements, ring, how).bits
        return made + resolve_cost(s.context, shift, ring, Sum3, full).bits

    return least if bits(least) < bits(full) else full
