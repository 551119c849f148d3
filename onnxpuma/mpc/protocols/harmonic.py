"""Sine and cosine of any angle: a Fourier series of one harmonic, of the angle in turns.

An angle in turns wraps where the ring does, so a protocol that reads only the bits below the point loses
nothing, however many whole turns there are (docs/protocols.md, "Series").
"""

from __future__ import annotations

import math

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import split
from onnxpuma.mpc.protocols.exact_series import ARGUMENT_BITS, series_long, series_long_cost
from onnxpuma.mpc.protocols.fourier import Series, result_fraction
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost

COSINE = Series("cosine", 1, (0.0, 1.0, 0.0))
SINE = Series("sine", 1, (0.0, 0.0, 1.0))
_ANGLE = Format(22, 22)  # the part of a turn that is read: one whole turn is the whole ring
_PRECISION = 20
_ABOVE = 3  # bits above the point


def harmonic(party: Party, x: Replicated, pivot: int, series: Series) -> Protocol[Replicated]:
    """COSINE or SINE of x in radians, in x's format.

    Error, at (64, 18): 6e-6 for |x| below 2^24; above it the rounding of 1 / 2 pi counts, which grows with x.
    Rounds: 3; bits: `harmonic_cost`.
    """
    # 1. the angle in turns, without whole turns: 1 / 2 pi fills all but two bits of the ring
    fraction = x.bits - 2 - x.fraction
    per_radian = x.format.word.type(round(2**fraction / (2 * math.pi)))
    angle = split(party, x.times(per_radian, fraction), pivot, _ANGLE)
    # 2. the series
    turn = angle.raised(ARGUMENT_BITS - angle.bits, ARGUMENT_BITS)
    y = yield from series_long(party, series, turn, _series_bits(series), _PRECISION)
    # 3. back to the full ring
    pair = y.lowered(result_fraction(series, _PRECISION) - x.fraction, _narrow(x.format))
    return (yield from lift_pair(party, pair, x.bits))


def harmonic_cost(elements: int, series: Series, format: Format) -> Cost:
    back = lift_pair_cost(elements, _narrow(format).bits, format.bits)
    return series_long_cost(series, elements, _series_bits(series), _PRECISION) + back


def _narrow(format: Format) -> Format:
    """Of a result from -1 to 1, with room for the lift."""
    return format.modulo(format.fraction + _ABOVE)


def _series_bits(series: Series) -> int:
    """Bits of the series' ring, _ABOVE of them above the point."""
    return result_fraction(series, _PRECISION) + _ABOVE
