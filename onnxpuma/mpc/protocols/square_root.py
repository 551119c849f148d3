"""sqrt(x) of a non-negative value over the whole range, including sums of squares that outgrow a word.

The argument is scaled like that of a reciprocal root, by a power that grows with x. A value below the window
counts as zero, and so does its root (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.protocols.reciprocal import WHOLE_RANGE, ring_of
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import (
    Scales,
    Way,
    sum_times_powers,
    sum_times_powers_cost,
    together,
)
from onnxpuma.mpc.protocols.wide_root import HIGHEST, Readings, sum_of_roots, sum_of_roots_cost


@lru_cache(maxsize=64)
def _scales(low: int, high: int, source: int, format: Format, way: Way) -> Scales:
    if source % 2:
        raise ProtocolError(f"a root of {source} fraction bits", "an even scale")
    return Scales.of("sqrt", source // 2 - low, high - low, format, 1.0, way)


def square_root(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = WHOLE_RANGE,
    way: Way = Way.MASKED,
) -> Protocol[Replicated]:
    """sqrt(x), (n,), in `format`, of x with an even number of fraction bits.

    `digits`: `digits_of` the range in which x lies; for an x below it the root is less than twice that of its
    end. Relative error below 2^-18, and one unit of the result. Condition: 0 <= x.
    Rounds: 5, by other ways 3 or 6; bits: `square_root_cost`, one element a row.
    """
    scales = _scales(*digits, x.fraction, format, way)
    seen = split(party, x, pivot, x.format.modulo(ring_of(digits)))
    return (yield from sum_times_powers(party, [seen], [_thresholds(digits, scales)], [scales], way))


@lru_cache(maxsize=64)
def _thresholds(digits: tuple[int, int], scales: Scales) -> Thresholds:
    return Thresholds(*digits, ring_of(digits), Power.ROOT, scales.bits)


def square_root_cost(
    elements: int,
    source: int,
    format: Format,
    digits: tuple[int, int] = WHOLE_RANGE,
    form: type = Sum3,
    way: Way = Way.MASKED,
) -> Cost:
    """source: fraction bits of x."""
    scales = _scales(*digits, source, format, way)
    total = sum_times_powers_cost(elements, [_thresholds(digits, scales)], [scales], way)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


@lru_cache(maxsize=64)
def _both(
    readings: Readings, low: int, format: Format, way: Way
) -> tuple[Sequence[Scales], Sequence[Thresholds]]:
    near = _scales(low, HIGHEST, readings.fine, format, way)
    far = _scales(*readings.digits, readings.coarse.fraction, format, way)
    both = together([near, far])
    return both, readings.thresholds(low, Power.ROOT, both)


def wide_square_root(
    party: Party,
    fine: Sum3,
    coarse: Sum3,
    pivot: int,
    format: Format,
    low: int = 1,
    way: Way = Way.MASKED,
) -> Protocol[Replicated]:
    """sqrt(x), (n,), in `format`, of x in two readings (`Readings`).

    low: of the fine reading's digits. Error: that of `square_root`, and the coarse reading's. Condition:
    0 <= x < 2^(ring - 2) units of the coarse reading. Rounds: 5, by other ways 3 or 6; bits:
    `wide_square_root_cost`.
    """
    scales, every = _both(Readings(fine.fraction, coarse.format), low, format, way)
    return (yield from sum_of_roots(party, [fine, coarse], pivot, scales, every, way))


def wide_square_root_cost(
    elements: int, readings: Readings, format: Format, low: int = 1, way: Way = Way.MASKED
) -> Cost:
    return sum_of_roots_cost(elements, *_both(readings, low, format, way), way)
