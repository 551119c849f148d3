"""A function of scaled values times the powers that undo the scaling, in one message.

Three ways lead to the same result, of which a caller chooses one by its cost (docs/protocols.md,
"Reciprocals").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Split
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost
from onnxpuma.mpc.protocols.exact_series import ARGUMENT_BITS, series_times, series_times_cost
from onnxpuma.mpc.protocols.fourier import all_series, result_fraction
from onnxpuma.mpc.protocols.long_words import LongPair, pass_on_long, pass_on_long_cost
from onnxpuma.mpc.protocols.power_of_four import Scaled, to_windows, window_cost
from onnxpuma.mpc.protocols.thresholds import Thresholds
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.mpc.ring.long import LONGEST
from onnxpuma.mpc.ring.words import WIDEST

SERIES_FRACTION = 24  # of cosines of amplitude one, where the result has that many bits
_SPARE = 5  # bits of a series beyond those of the largest result
_ABOVE = 3  # bits of a function in the window, above the point


class Way(Enum):
    """How a power of four is found, and in which ring the function is multiplied by it."""

    # Thresholds are opened under masks, and the ring holds the result's bits: 5 rounds.
    MASKED = "root in a wide ring"
    # The pivot deals keys that yield the thresholds' bits: 3 rounds, more bytes.
    KEYED = "root by keys"
    # The ring just holds the product, and the result is lifted: 6 rounds, the fewest bytes. A result that
    # stays at the twins is not lifted: there it is MASKED.
    NARROW = "root, then a lift"

    @property
    def keyed(self) -> bool:
        return self is Way.KEYED


def fastest(network: Network, cost: Callable[[Way], Cost]) -> Way:
    """The way that takes the least time on this network."""
    return network.fastest({way: cost(way) for way in Way})


@dataclass(frozen=True)
class Scales:
    """A function in the window times a power, in a ring that holds every bit of it. All of it is public."""

    name: str  # of the series
    gain: float  # the series evaluates this times the function, 1/2 < gain <= 1
    fraction: int  # fraction bits of its cosines
    shift: int  # fraction bits of the product beyond those of the result
    format: Format  # of what the shift leaves
    result: Format
    wider: int = 0  # bits of the ring above those of `format`, for a result that stays at the twins

    @property
    def bits(self) -> int:
        """Of the product's ring."""
        return self.format.bits + self.wider + self.shift

    @classmethod
    def of(
        cls, name: str, undone: int, most: int, format: Format, gain: float, way: Way, wider: int = 0
    ) -> Scales:
        """undone: the result is 2^-undone of the function times the power, which is 2^most at most."""
        if gain <= 0:
            raise ProtocolError(f"{name} with gain {gain}", "a positive gain")
        exponent = exponent_of(gain, math.ceil)
        undone, gain = undone - exponent, gain / 2.0**exponent
        # the result of a huge argument has few bits, and its series needs no more
        fraction = min(SERIES_FRACTION, max(2, format.fraction - undone + most + _SPARE))
        product = result_fraction(all_series()[name], fraction, gain)
        shift = product + undone - format.fraction
        width = format.bits
        if way is Way.NARROW and not wider:
            width = min(width, max(4, product + _ABOVE + most + 1 - shift))
        apart = wider and not 0 <= shift < WIDEST  # of the ends of a shift of two limbs
        if apart or not 0 < width + wider + shift <= LONGEST:
            raise ProtocolError(f"{name} divided by 2^{undone} in {format}", "a result that has bits left")
        return cls(name, gain, fraction, shift, format.modulo(width), format, wider)


def exponent_of(x: float, rounded: Callable[[float], int]) -> int:
    """log2 rounded to an integer, the same on every machine."""
    mantissa, exponent = math.frexp(x)
    return exponent - 1 if mantissa == 0.5 or rounded is math.floor else exponent


def together(scales: Sequence[Scales]) -> list[Scales]:
    """The same functions, for results that are added before they are lifted."""
    width = max(s.format.bits for s in scales)
    return [replace(s, format=s.format.modulo(width)) for s in scales]


def sum_times_powers(
    party: Party,
    values: Sequence[Split],
    every: Sequence[Thresholds],
    scales: Sequence[Scales],
    way: Way,
) -> Protocol[Replicated]:
    """The sum of each value's function times the power that undoes its scaling, (n,), in `result`.

    Two values are scaled to their windows so that one of the powers is zero (`to_windows`). Rounds: 5 by
    Way.MASKED, the first of them the exchange that brings the values; bits: `sum_times_powers_cost`.
    """
    # 1. to the window
    scaled = yield from to_windows(party, values, every, way.keyed)
    # 2. each function times its power
    pairs = yield from parallel(
        _times_power(party, each, t.high, s) for each, t, s in zip(scaled, every, scales, strict=True)
    )
    # 3. the sum, back to replicated words of the result's ring
    total = pairs[0]
    for pair in pairs[1:]:
        total = total + pair
    return (yield from lift_pair(party, total, scales[0].result.bits, -1))


def sum_at_twins(
    party: Party, values: Sequence[Split], every: Sequence[Thresholds], scales: Sequence[Scales], way: Way
) -> Protocol[LongPair]:
    """`sum_times_powers` as the twins hold it, mod 2^(`format.bits` + `wider`), at the scale of `result`.

    Rounds: one less; bits: `sum_at_twins_cost`.
    """
    scaled = yield from to_windows(party, values, every, way.keyed)
    pairs = yield from parallel(
        _long_times_power(party, each, t.high, s) for each, t, s in zip(scaled, every, scales, strict=True)
    )
    parts = [pair.shifted(s.shift) for pair, s in zip(pairs, scales, strict=True)]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _times_power(party: Party, scaled: Scaled, high: int, s: Scales) -> Protocol[Pair]:
    return (yield from _long_times_power(party, scaled, high, s)).lowered(s.shift, s.format)


def _long_times_power(party: Party, scaled: Scaled, high: int, s: Scales) -> Protocol[LongPair]:
    x = window_of(party, scaled.value, high)
    factors: list[LongPair] = [scaled.power, *([scaled.small] if scaled.small else [])]
    powers = [pass_on_long(party, factor) for factor in factors]
    return (yield from series_times(party, all_series()[s.name], x, powers, s.fraction, s.gain))


def sum_times_powers_cost(
    elements: int, every: Sequence[Thresholds], scales: Sequence[Scales], way: Way
) -> Cost:
    back = lift_pair_cost(elements, scales[0].format.bits, scales[0].result.bits)
    return sum_at_twins_cost(elements, every, scales, way) + back


def sum_at_twins_cost(elements: int, every: Sequence[Thresholds], scales: Sequence[Scales], way: Way) -> Cost:
    both = every[-1].cleared > 0 and way.keyed
    total, each = window_cost(elements, every, way.keyed), Cost()
    for index, (t, s) in enumerate(zip(every, scales, strict=True)):
        count = 2 if both and index == 0 else 1
        each |= window_of_cost(elements, t.high) | pass_on_long_cost(elements, s.bits) * count
        each |= series_times_cost(all_series()[s.name], elements, s.bits, s.fraction, s.gain, count)
    return total + each


def window_of(party: Party, value: Pair, high: int) -> Split:
    """A scaled value at ARGUMENT_BITS bits, seen by the next pivot, to which it is on its way."""
    shift = 2 * high + 2 - ARGUMENT_BITS
    if shift < 0:
        return pass_on(party, value).raised(-shift, ARGUMENT_BITS)
    return pass_on(party, value.lowered(shift))


def window_of_cost(elements: int, high: int) -> Cost:
    return pass_on_cost(elements, min(2 * high + 2, ARGUMENT_BITS))
