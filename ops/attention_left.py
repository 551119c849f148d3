"""The scores that masks and order leave to an attention; without a public mask, by formulas, not arrays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from onnxpuma.ops.attention_mask import mask_reach
from onnxpuma.ops.attention_positions import attention_scores, planned_lengths
from onnxpuma.ops.lengths import spread_of_scores
from onnxpuma.ops.registry import Call
from onnxpuma.ops.scores import SPREAD, Scores
from onnxpuma.ops.sight import near_numbers


def _default(call: Call) -> float:
    return call.bound("spread", SPREAD)


@lru_cache(maxsize=2)
def scores_left(call: Call) -> Scores:
    """The scores that are computed, and the public numbers added to them."""
    return attention_scores(call, _default(call) + mask_reach(call))


def scores_a_row(call: Call) -> np.ndarray:
    """The number of scores computed in each row, (batch * heads * queries,)."""
    planned = planned_lengths(call)
    return scores_left(call).lengths if planned is None else planned


def apart(call: Call) -> float:
    """The largest distance between two scores of a row."""
    if planned_lengths(call) is None:
        return scores_left(call).spread
    return _default(call) + mask_reach(call)


def scores_apart(call: Call) -> float:
    """The proved bound of that distance, masks included."""
    added = scores_left(call).added if near_numbers(call.operand(3)) else None
    least = 0.0 if added is None else float(-added.min(initial=0.0))
    return spread_of_scores(call) + least + mask_reach(call)
