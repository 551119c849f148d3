"""How the scores of an attention are read: the fastest of several ways on the network of the plan."""

from __future__ import annotations

from functools import lru_cache

from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.ops.attention_left import scores_a_row
from onnxpuma.ops.attention_positions import cap_of, shapes_of
from onnxpuma.ops.attention_scale import score_format, spread_read
from onnxpuma.ops.factors import factor_bits
from onnxpuma.ops.lengths import head_length
from onnxpuma.ops.numerators import fastest_reading
from onnxpuma.ops.registry import Call
from onnxpuma.ops.score_reading import Reading, histograms

_LARGEST_SUM = 2.0**17  # of fine numerators times values: their words stay below 2^61


@lru_cache(maxsize=4)
def reading_of(call: Call) -> Reading:
    """The fastest way to read the scores."""
    cap, lengths = cap_of(call), scores_a_row(call)
    form, format = (Replicated, call.reals.finer(factor_bits(cap))) if cap else (Sum3, score_format(call))
    fine = head_length(call, 2) * shapes_of(call).keys < _LARGEST_SUM
    spread = spread_read(call)
    others, lengths = histograms(spread, format, call.ring, fine), lengths[lengths > 0]
    return fastest_reading(call.network, Reading(spread), others, lengths, form, call.ring)
