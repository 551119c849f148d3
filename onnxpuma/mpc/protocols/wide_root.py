"""1 / sqrt(x) of a positive x that outgrows one word: read twice, finely and coarsely.

Where the fine reading would wrap, the coarse one counts. The protocol evaluates both roots side by side, in
the rounds of one. Scaling the coarse reading yields a bit that clears the power of the root that does not
count (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.reciprocal import WHOLE_RANGE, ring_of
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import (
    Scales,
    Way,
    sum_at_twins,
    sum_at_twins_cost,
    sum_times_powers,
    sum_times_powers_cost,
    together,
)

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

    def thresholds(self, low: int, power: Power, scales: Sequence[Scales]) -> list[Thresholds]:
        """Of both readings; the lowest bit of the coarse one decides which of them counts."""
        near, far = (s.bits for s in scales)
        return [
            Thresholds(low, HIGHEST, ring_of((low, HIGHEST)), power, near),
            Thresholds(*self.digits, self.coarse.bits, power, far, max(near, far)),
        ]


@lru_cache(maxsize=256)
def _scales(
    readings: Readings, low: int, format: Format, gain: float, way: Way, wider: int = 0
) -> tuple[Sequence[Scales], Sequence[Thresholds]]:
    first, last = readings.digits
    near = Scales.of("rsqrt", HIGHEST - readings.fine // 2, HIGHEST - low, format, gain, way, wider)
    far = Scales.of("rsqrt", last - readings.coarse.fraction // 2, last - first, format, gain, way, wider)
    both = together([near, far])
    return both, readings.thresholds(low, Power.INVERSE_ROOT, both)


def wide_rsqrt(
    party: Party,
    fine: Sum3,
    coarse: Sum3,
    pivot: int,
    format: Format,
    low: int = 1,
    gain: float = 1.0,
    way: Way = Way.MASKED,
) -> Protocol[Replicated]:
    """gain / sqrt(x), (n,), in `format`, of x in two readings (`Readings`).

    low: of the fine reading's digits, as in `rsqrt`. Error: that of `rsqrt`, and the coarse reading's.
    Condition: 0 < x < 2^(ring - 2) units of the coarse reading. Rounds: 5, by other ways 3 or 6; bits:
    `wide_rsqrt_cost`.
    """
    scales, every = _scales(Readings(fine.fraction, coarse.format), low, format, gain, way)
    return (yield from sum_of_roots(party, [fine, coarse], pivot, scales, every, way))


def wide_rsqrt_at_twins(
    party: Party,
    fine: Sum3,
    coarse: Sum3,
    pivot: int,
    format: Format,
    low: int,
    gain: float,
    way: Way,
    wider: int,
) -> Protocol[LongPair]:
    """`wide_rsqrt` as the twins hold it, mod 2^(`format.bits` + wider). Rounds: one less."""
    scales, every = _scales(Readings(fine.fraction, coarse.format), low, format, gain, way, wider)
    seen = [
        split(party, x, pivot, x.format.modulo(t.bits)) for x, t in zip((fine, coarse), every, strict=True)
    ]
    return (yield from sum_at_twins(party, seen, every, scales, way))


def wide_rsqrt_at_twins_cost(
    elements: int, readings: Readings, format: Format, low: int, gain: float, way: Way, wider: int
) -> Cost:
    scales, every = _scales(readings, low, format, gain, way, wider)
    read = sum(split_cost(elements, t.bits).bits for t in every)
    return Cost(0, read) + sum_at_twins_cost(elements, every, scales, way)


def sum_of_roots(
    party: Party,
    values: Sequence[Sum3],
    pivot: int,
    scales: Sequence[Scales],
    every: Sequence[Thresholds],
    way: Way,
) -> Protocol[Replicated]:
    """The sum of both readings' functions times their powers, of which one is zero."""
    seen = [split(party, x, pivot, x.format.modulo(t.bits)) for x, t in zip(values, every, strict=True)]
    return (yield from sum_times_powers(party, seen, every, scales, way))


def wide_rsqrt_cost(
    elements: int,
    readings: Readings,
    format: Format,
    low: int = 1,
    gain: float = 1.0,
    way: Way = Way.MASKED,
) -> Cost:
    scales, every = _scales(readings, low, format, gain, way)
    return sum_of_roots_cost(elements, scales, every, way)


def sum_of_roots_cost(elements: int, scales: Sequence[Scales], every: Sequence[Thresholds], way: Way) -> Cost:
    read = sum(split_cost(elements, t.bits).bits for t in every)
    return Cost(0, read) + sum_times_powers_cost(elements, every, scales, way)
