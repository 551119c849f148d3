"""The scale of an attention: whether it multiplies the queries or the scores, and the bits that remain."""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.forms import Sum3
from onnxpuma.ops.attention_left import apart
from onnxpuma.ops.attention_positions import cap_of, given_scale
from onnxpuma.ops.registry import Call
from onnxpuma.ops.scores import LEAST_SPREAD, SPREAD
from onnxpuma.ops.softmax import largest_spread

SCALE_BITS = 14  # significant bits of a scale that is not a power of two
SMALLEST_LATE = 2.0**-4  # a smaller scale is applied to the queries: the scores have no room for it


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


def score_fraction(call: Call) -> int:
    """Fraction bits of the scores before a softcap."""
    return 2 * call.reals.fraction + (0 if is_early(call) else scale_bits(call))


def spread_read(call: Call) -> float:
    """The distance that is read: as calibrated or as masks require, and no more than the scores can hold."""
    return min(apart(call), largest_spread(call.at(score_fraction(call))))
