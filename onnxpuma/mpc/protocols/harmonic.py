"""Sine and cosine of any angle: a Fourier series of one harmonic, of the angle in turns.

Counted in turns the angle wraps where the ring does: nothing is lost by reading only what stands behind the
point, whatever the number of whole turns (docs/protocols.md, "Series").
"""

from __future__ import annotations

import math

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost, split
from onnxpuma.mpc.protocols.fourier import Series, evaluate_series, result_fraction, series_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost

COSINE = Series("cosine", 1, (0.0, 1.0, 0.0))
SINE = Series("sine", 1, (0.0, 0.0, 1.0))
_TURNS = 44  # fraction bits of 1 / 2 pi: with 18 of the angle they fill the ring but for two whole turns
_PER_RADIAN = np.uint64(round(2**_TURNS / (2 * math.pi)))
_ANGLE_BITS = 22  # of a turn that are read
_PRECISION = 20
_VALUE_BITS = 21  # room for -1 to 1 at 18 fraction bits, and for the lift


def harmonic(party: Party, x: Replicated, pivot: int, series: Series) -> Protocol[Replicated]:
    """COSINE or SINE of x in radians, 18 fraction bits mod 2^64, at the same scale.

    Error: 6e-6 for |x| below 2^24; the rounding of 1 / 2 pi grows with x above it. Rounds: 3; bits:
    `harmonic_cost`.
    """
    # 1. the angle in turns, without the whole ones
    turns = x.times(_PER_RADIAN, _TURNS)
    angle = split(party, turns, pivot, _ANGLE_BITS, _ANGLE_BITS)
    # 2. the series
    pair = yield from evaluate_series(party, series, angle, _PRECISION, _series_bits(series))
    # 3. back to the full ring
    return (yield from lift(party, pass_on(party, pair.lowered(pair.fraction - x.fraction)), 64))


def harmonic_cost(elements: int, series: Series) -> Cost:
    back = pass_on_cost(elements, _VALUE_BITS) | lift_cost(elements, _VALUE_BITS, 64)
    return series_cost(series, elements, _PRECISION, _series_bits(series)) + back


def _series_bits(series: Series) -> int:
    """The ring of the series: after the shift to 18 fraction bits _VALUE_BITS of it are left."""
    return result_fraction(series, _PRECISION) - 18 + _VALUE_BITS
