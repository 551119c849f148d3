"""The lengths of queries and keys up to which the scores of an attention stay in their range."""

from __future__ import annotations

import math

from onnxpuma.ops.attention_positions import cap_of, shapes_of
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.lengths import head_length
from onnxpuma.ops.registry import Call
from onnxpuma.ops.score_reading import farthest_apart
from onnxpuma.ops.scores import SPREAD
from onnxpuma.ops.sight import seen


def lengths(call: Call, scale: float, below: float) -> tuple[Need, ...]:
    """The lengths of queries and keys, by head, that keep all scores below a bound, and near in a row.

    |q (k - k')| is at most |q| times the distances of k and k' from any third vector, such as their mean.
    If one factor is known to be short, the other gets the rest of the range; if both may be long, the one
    that may be longer gets more. scale: the factor of the scores before a softcap.
    """
    s, scale = shapes_of(call), scale * (cap_of(call) or 1.0)
    product = farthest_apart(call.bound("spread", SPREAD)) / (2 * scale)
    q, k = (max(head_length(call, place), product * 2.0**-20) for place in (0, 1))
    root = math.sqrt(min(product, below / scale))
    if q <= root / 2 or k <= root / 2:
        query = 2 * q if q <= k else root * root / (2 * k)
    else:
        new = seen(call.given(1)).length(s.size)  # past keys were new keys once
        more = min(max(math.sqrt(q / new), 0.5), 2.0) if q < math.inf and 0 < new < math.inf else 1.0
        query = root * more
    key = product / query
    longest = Need(1, "row", below / (scale * query), count=s.size)
    if s.past:
        keys = [Need(place, "row", min(key, longest.below), count=s.size) for place in (1, 4)]
        return Need(0, "row", query, count=s.size), *keys
    return Need(0, "row", query, count=s.size), Need(1, "row", key, count=s.size, around=-2), longest
