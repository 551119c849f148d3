"""The natural logarithm of a positive value over the whole range of the format.

As in reciprocal.py a power of four brings the value to [1/4, 2), and a Fourier series evaluates the logarithm
there. The exponent, a count of thresholds, is added.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.exact_series import series_plus, series_plus_cost
from onnxpuma.mpc.protocols.fourier import all_series, result_fraction
from onnxpuma.mpc.protocols.long_words import pass_on_long, pass_on_long_cost
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import ring_of, whole_range
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import SERIES_FRACTION, window_of, window_of_cost

FRACTION = 24  # of the result: finer than a resting value, because products and exponentials read it
LN_4 = float(Decimal(4).ln())  # the same on every machine


@lru_cache(maxsize=64)
def _thresholds(bits: int) -> tuple[Thresholds, int]:
    """Those of the whole range mod 2^bits, and how many bits the series has beyond those of the result."""
    digits = whole_range(bits)
    shift = result_fraction(all_series()["log"], SERIES_FRACTION) - FRACTION
    return Thresholds(*digits, ring_of(digits), Power.EXPONENT, bits + shift), shift


def logarithm(party: Party, x: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
    """log(x) of a positive x, (n,), with FRACTION fraction bits in x's ring.

    Error: below 2^-19 for x of at least 2^20 units; for a smaller x the argument's own. Condition: x > 0;
    for other values the result is some number below 2^10. Rounds: 5; bits: `logarithm_cost`.
    """
    thresholds, shift = _thresholds(x.bits)
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and how many powers were missing
    seen = split(party, x, pivot, x.format.modulo(thresholds.bits))
    scaled = yield from to_window(party, seen, thresholds)
    # 2. log v less their logarithm, led by the next party
    window = window_of(party, scaled.value, thresholds.high)
    missing = pass_on_long(party, scaled.power)
    weight = round(-LN_4 * 2.0 ** (FRACTION + shift))
    y = yield from series_plus(party, all_series()["log"], window, missing, weight, SERIES_FRACTION)
    # 3. back to replicated words
    made = replicate_pair(party, y.lowered(shift, Format(x.bits, FRACTION)))
    most = LN_4 * thresholds.high - LN_4 / 2 * x.fraction
    return (yield from settle(party, made)).plus_numbers(most)


def logarithm_cost(elements: int, bits: int, form: type = Sum3) -> Cost:
    thresholds, _ = _thresholds(bits)
    passed = window_of_cost(elements, thresholds.high) | pass_on_long_cost(elements, thresholds.power_bits)
    passed = passed | series_plus_cost(all_series()["log"], elements, thresholds.power_bits, SERIES_FRACTION)
    read = Cost(0, split_cost(elements, thresholds.bits, form).bits)
    return read + window_cost(elements, [thresholds]) + passed + replicate_pair_cost(elements, bits)
