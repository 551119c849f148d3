"""1 / sqrt(x) of a positive x that outgrows one word: read twice, finely and coarsely.

Where the fine reading would wrap, the coarse one counts. The protocol evaluates both roots side by side, in
the rounds of one. Scaling the coarse reading yields a bit that clears the power of the root that does not
count (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.power_of_four import to_windows, window_cost
from onnxpuma.mpc.protocols.reciprocal import WHOLE_RANGE, Scales, ring_of, times_power, times_power_cost
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds

HIGHEST = WHOLE_RANGE[1]  # the fine reading holds up to 2 * 4^HIGHEST units


@dataclass(frozen=True)
class Readings:
    """Two readings of x, of which the coarse one holds larger numbers."""

    fine: int  # fraction bits of the fine one
    coarse: Format  # fewer fraction bits, in a ring of an even number of bits

    def __post_init__(self) -> None:
        first, last = self.digits
        if self.fine % 2 or self.coarse.fraction % 2 or self.coarse.bits % 2 or not 0 < first < last:
            raise ProtocolError(f"{self}", "even scales and an even ring, the coarse reading well below")

    @property
    def digits(self) -> tuple[int, int]:
        """Digits of the coarse reading, from the end of the fine one to the end of its own ring."""
        return HIGHEST - (self.fine - self.coarse.fraction) // 2, self.coarse.bits // 2 - 1

    def thresholds(self, low: int, power: Power, near: Scales, far: Scales) -> list[Thresholds]:
        """Of both readings; the lowest bit of the coarse one decides which of them counts."""
        most = max(near.bits, far.bits)
        return [
            Thresholds(low, HIGHEST, ring_of((low, HIGHEST)), power, near.bits),
            Thresholds(*self.digits, self.coarse.bits, power, far.bits, most),
        ]


def _scales(
    readings: Readings, low: int, format: Format, gain: float
) -> tuple[Scales, Scales, list[Thresholds]]:
    first, last = readings.digits
    near = Scales.of("rsqrt", HIGHEST - readings.fine // 2, HIGHEST - low, format, gain)
    far = Scales.of("rsqrt", last - readings.coarse.fraction // 2, last - first, format, gain)
    return near, far, readings.thresholds(low, Power.INVERSE_ROOT, near, far)


def wide_rsqrt(
    party: Party, fine: Sum3, coarse: Sum3, pivot: int, format: Format, low: int = 1, gain: float = 1.0
) -> Protocol[Replicated]:
    """gain / sqrt(x), (n,), in `format`, of x in two readings (`Readings`).

    low: of the fine reading's digits, as in `rsqrt`. Error: that of `rsqrt`, and the coarse reading's.
    Condition: 0 < x < 2^(ring - 2) units of the coarse reading. Rounds: 5; bits: `wide_rsqrt_cost`.
    """
    near, far, every = _scales(Readings(fine.fraction, coarse.format), low, format, gain)
    return (yield from sum_of_roots(party, [fine, coarse], pivot, format, [near, far], every))


def sum_of_roots(
    party: Party,
    values: list[Sum3],
    pivot: int,
    format: Format,
    scales: list[Scales],
    every: list[Thresholds],
) -> Protocol[Replicated]:
    """The sum of both readings' functions times their powers, of which one is zero."""
    # 1. both are scaled to the window, which also yields [x is small enough for the fine one]
    seen = [split(party, x, pivot, x.format.modulo(t.bits)) for x, t in zip(values, every, strict=True)]
    scaled = yield from to_windows(party, seen, every)
    # 2. each function times its power
    near, far = yield from parallel(
        times_power(party, each, t.high, s, format) for each, t, s in zip(scaled, every, scales, strict=True)
    )
    # 3. the sum, back to replicated words
    return (yield from settle(party, replicate_pair(party, near + far)))


def wide_rsqrt_cost(
    elements: int, readings: Readings, format: Format, low: int = 1, gain: float = 1.0
) -> Cost:
    near, far, every = _scales(readings, low, format, gain)
    return sum_of_roots_cost(elements, format, [near, far], every)


def sum_of_roots_cost(elements: int, format: Format, scales: list[Scales], every: list[Thresholds]) -> Cost:
    read = sum(split_cost(elements, t.bits).bits for t in every)
    near, far = (times_power_cost(elements, t.high, s) for t, s in zip(every, scales, strict=True))
    return (
        Cost(0, read)
        + window_cost(elements, every)
        + (near | far)
        + replicate_pair_cost(elements, format.bits)
    )
