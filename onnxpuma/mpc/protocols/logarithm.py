"""The natural logarithm of a positive value over the whole range of the format.

As in reciprocal.py a power of four brings the value to [1/4, 2), and a Fourier series evaluates the logarithm
there. The exponent, a count of thresholds, is added.
"""

from __future__ import annotations

import math

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost, split, split_cost
from onnxpuma.mpc.protocols.fourier import all_series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import ARGUMENT_BITS, CARRIER, SERIES_FRACTION, whole_range
from onnxpuma.mpc.protocols.truncate import lift, lift_cost

FRACTION = 24  # of the result: finer than a resting value, because products and exponentials read it


def logarithm(party: Party, x: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
    """log(x) of a positive x, (n,), with FRACTION fraction bits in x's ring.

    Error: below 2^-19 for x of at least 2^20 units; for a smaller x the argument's own. Condition: x > 0;
    for other values the result is some number below 2^10. Rounds: 6; bits: `logarithm_cost`.
    """
    low, high = whole_range(x.bits)
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and how many powers were missing
    scaled = yield from to_window(party, split(party, x, pivot, x.format), low, high, counted=True)
    # 2. log v, led by the next party
    window = scaled.value.lowered(2 * high + 2 - ARGUMENT_BITS, ARGUMENT_BITS)
    pair = yield from evaluate_series(party, all_series()["log"], window, SERIES_FRACTION, CARRIER)
    # 3. back to the full ring
    wide = yield from lift(party, pass_on(party, pair.lowered(pair.fraction - FRACTION)), x.bits)
    # 4. plus the exponent's share
    power = scaled.power.times(wide.format.encode(-math.log(4.0)), FRACTION)
    return (wide + power).plus(wide.format.encode(math.log(4.0) * high - math.log(2.0) * x.fraction))


def logarithm_cost(elements: int, bits: int, form: type = Sum3) -> Cost:
    series = all_series()["log"]
    width = CARRIER - result_fraction(series, SERIES_FRACTION) + FRACTION
    dealt = series_cost(series, elements, SERIES_FRACTION, CARRIER)
    back = pass_on_cost(elements, width) | lift_cost(elements, width, bits)
    total = window_cost(elements, *whole_range(bits), bits) + Cost(0, dealt.bits) + back
    return total + Cost(0, split_cost(elements, bits, form).bits)
