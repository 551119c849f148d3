"""sqrt(x) of a non-negative value over the whole range, including sums of squares that outgrow a word.

The argument is scaled like that of a reciprocal root, by a power that grows with x. A value below the window
counts as zero, and so does its root (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import WHOLE_RANGE, Scales, ring_of, times_power, times_power_cost
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.wide_root import HIGHEST, Readings, sum_of_roots, sum_of_roots_cost


def _scales(low: int, high: int, source: int, format: Format) -> Scales:
    if source % 2:
        raise ProtocolError(f"a root of {source} fraction bits", "an even scale")
    return Scales.of("sqrt", source // 2 - low, high - low, format)


def square_root(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = WHOLE_RANGE,
) -> Protocol[Replicated]:
    """sqrt(x), (n,), in `format`, of x with an even number of fraction bits.

    `digits`: `digits_of` the range in which x lies; for an x below it the root is less than twice that of its
    end. Relative error below 2^-18, and one unit of the result. Condition: 0 <= x.
    Rounds: 5; bits: `square_root_cost`, one element a row.
    """
    scales = _scales(*digits, x.fraction, format)
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and 2^(d - low)
    seen = split(party, x, pivot, x.format.modulo(ring_of(digits)))
    scaled = yield from to_window(party, seen, _thresholds(digits, scales))
    # 2. its root times the power
    made = yield from times_power(party, scaled, digits[1], scales, format)
    # 3. back to replicated words
    return (yield from settle(party, replicate_pair(party, made)))


def _thresholds(digits: tuple[int, int], scales: Scales) -> Thresholds:
    return Thresholds(*digits, ring_of(digits), Power.ROOT, scales.bits)


def square_root_cost(
    elements: int, source: int, format: Format, digits: tuple[int, int] = WHOLE_RANGE, form: type = Sum3
) -> Cost:
    """source: fraction bits of x."""
    scales = _scales(*digits, source, format)
    total = window_cost(elements, [_thresholds(digits, scales)])
    total = total + times_power_cost(elements, digits[1], scales) + replicate_pair_cost(elements, format.bits)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


def _both(readings: Readings, low: int, format: Format) -> tuple[list[Scales], list[Thresholds]]:
    near = _scales(low, HIGHEST, readings.fine, format)
    far = _scales(*readings.digits, readings.coarse.fraction, format)
    return [near, far], readings.thresholds(low, Power.ROOT, near, far)


def wide_square_root(
    party: Party, fine: Sum3, coarse: Sum3, pivot: int, format: Format, low: int = 1
) -> Protocol[Replicated]:
    """sqrt(x), (n,), in `format`, of x in two readings (`Readings`).

    low: of the fine reading's digits. Error: that of `square_root`, and the coarse reading's. Condition:
    0 <= x < 2^(ring - 2) units of the coarse reading. Rounds: 5; bits: `wide_square_root_cost`.
    """
    scales, every = _both(Readings(fine.fraction, coarse.format), low, format)
    return (yield from sum_of_roots(party, [fine, coarse], pivot, format, scales, every))


def wide_square_root_cost(elements: int, readings: Readings, format: Format, low: int = 1) -> Cost:
    return sum_of_roots_cost(elements, format, *_both(readings, low, format))
