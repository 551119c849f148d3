"""The natural logarithm of a positive value over the whole range of the format.

As in reciprocal.py the value is brought to [1/4, 2) by a power of four, and a Fourier series gives the
logarithm there; the power's exponent, a count of thresholds, is added.
"""

from __future__ import annotations

import math

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost, split, split_cost
from onnxpuma.mpc.protocols.fourier import all_series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import ARGUMENT_BITS, SERIES_FRACTION, WHOLE_RANGE
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.words import encode

FRACTION = 24  # of the result


def logarithm(party: Party, x: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
    """log(x) of a positive x, (n,), FRACTION fraction bits mod 2^64.

    Error below 2^-19 for x of at least 2^20 units; below that the argument's own. Condition: x > 0; the
    result for other values is some number below 2^10. Rounds: 6; bits: `logarithm_cost`.
    """
    low, high = WHOLE_RANGE
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and how many powers were missing
    scaled = yield from to_window(party, split(party, x, pivot, x.fraction, 64), low, high, counted=True)
    # 2. log v, led by the next party
    window = scaled.value.lowered(2 * high + 2 - ARGUMENT_BITS, ARGUMENT_BITS)
    pair = yield from evaluate_series(party, all_series()["log"], window, SERIES_FRACTION, 64)
    # 3. back to the full ring
    wide = yield from lift(party, pass_on(party, pair.lowered(pair.fraction - FRACTION)), 64)
    # 4. plus the exponent's share
    power = scaled.power.times(encode(-math.log(4.0), FRACTION), FRACTION)
    return (wide + power).plus(encode(np.log(4.0) * high - np.log(2.0) * x.fraction, FRACTION))


def logarithm_cost(elements: int, form: type = Sum3) -> Cost:
    series = all_series()["log"]
    width = 64 - result_fraction(series, SERIES_FRACTION) + FRACTION
    dealt = series_cost(series, elements, SERIES_FRACTION, 64)
    back = pass_on_cost(elements, width) | lift_cost(elements, width, 64)
    total = window_cost(elements, *WHOLE_RANGE) + Cost(0, dealt.bits) + back
    return total + Cost(0, split_cost(elements, 64, form).bits)
