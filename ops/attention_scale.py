"""The scale of an attention: whether it multiplies the queries or the scores, and the bits that remain."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Sum3
from onnxpuma.ops.attention_left import apart
from onnxpuma.ops.attention_positions import cap_of, given_scale, shapes_of
from onnxpuma.ops.lengths import head_length
from onnxpuma.ops.limits import ROOM
from onnxpuma.ops.registry import Call
from onnxpuma.ops.rows import exponent
from onnxpuma.ops.score_reading import FINE, Reading
from onnxpuma.ops.scores import LEAST_SPREAD, SPREAD
from onnxpuma.ops.softmax import largest_spread

SCALE_BITS = 14  # significant bits of a scale that is not a power of two
READ = 14  # fraction bits of queries and keys that nothing else reads
SMALLEST_LATE = 2.0**-4  # a smaller scale is applied to the queries: the scores have no room for it


@lru_cache(maxsize=4)  # one call asks again and again
def scale_of(call: Call) -> float:
    """The factor of the scores, which a softcap multiplies again after the tanh."""
    return given_scale(call) / (cap_of(call) or 1.0)


def _is_power(scale: float) -> bool:
    return scale == 2.0 ** np.floor(np.log2(scale)) and scale >= 2.0**-16


def is_early(call: Call) -> bool:
    """Whether the scale is applied to the queries, before the product."""
    scale = scale_of(call)
    if _is_power(scale):
        return False
    if scale < SMALLEST_LATE or bool(cap_of(call)):
        return True
    late = call.product.finer(scale_bits(call))
    return bool(call.secret(3)) or _least_apart(call) > largest_spread(late)


def _least_apart(call: Call) -> float:
    """The least distance between two scores that the reading must cover."""
    return apart(call) - (0.0 if "spread" in call.bounds else SPREAD - LEAST_SPREAD)


def scaled(scores: Sum3, scale: float) -> Sum3:
    """scores * scale: a power of two moves the point; any other scale is a factor of SCALE_BITS bits."""
    exponent = int(np.floor(np.log2(scale)))
    if _is_power(scale):
        return scores.with_fraction(scores.fraction - exponent)
    bits = SCALE_BITS - 1 - exponent
    return scores.times_integers(round(scale * 2.0**bits), bits)


def scale_bits(call: Call) -> int:
    """Fraction bits that the scale adds to a product: negative for a large scale."""
    scale = scale_of(call)
    return -int(np.floor(np.log2(scale))) + (0 if _is_power(scale) else SCALE_BITS - 1)


@lru_cache(maxsize=4)
def score_format(call: Call) -> Format:
    """The format of the scores before a softcap: of a product of queries and keys, times a late scale."""
    return call.product if is_early(call) else call.product_of(0, 1).finer(scale_bits(call))


@lru_cache(maxsize=4)
def spread_read(call: Call) -> float:
    """The distance that is read: as calibrated or as masks require, and no more than the scores can hold."""
    return min(apart(call), largest_spread(score_format(call)))


def accepted(call: Call, index: int) -> Format | None:
    """Queries and keys of proved length, at READ fraction bits or as many more as long ones need, in a ring
    in which the product and the distances of scores fit. Not where a cache holds the keys.
    """
    if index > 1 or not call.secret(index) or _as_usual(call) or (index == 1 and _in_cache(call)):
        return None
    q, k = (head_length(call, place) for place in (0, 1))
    fraction, usual = _read_fraction(call, max(q, k)), call.reals.fraction
    if fraction >= usual or math.isinf(q * k):
        return None
    error = math.sqrt(shapes_of(call).size) * 2.0 ** (1 - fraction)  # of the length of a row
    other = call.given(1 - index)
    made = fraction + (other.fraction if other.secret else usual)
    largest = scale_of(call) * (q + error) * (k + error)
    above = max(2 + exponent(largest * (1 + ROOM) + ROOM), Reading(spread_read(call)).bits - FINE)
    return Format(made + scale_bits(call) + above, fraction)


def _read_fraction(call: Call, longest: float) -> int:
    """Fraction bits of queries and keys. Rounding moves a score by less than 2^-11, in standard deviation."""
    return READ + max(0, exponent(scale_of(call) * min(longest, 2.0**20) / 8))


def _as_usual(call: Call) -> bool:
    """Whether scores are computed from values at rest: they are shown, capped, scaled early or masked."""
    shown = len(call.outputs) > 3 and bool(call.outputs[3].name)
    return shown or bool(cap_of(call)) or is_early(call) or call.secret(3)


def _in_cache(call: Call) -> bool:
    return call.present(4) or (len(call.outputs) > 1 and bool(call.outputs[1].name))
