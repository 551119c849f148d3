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
from onnxpuma.mpc.protocols.convert import replicate_sum, replicate_sum_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import CARRIER, WHOLE_RANGE, Scales, in_window, in_window_cost
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost

HIGHEST = WHOLE_RANGE[1]  # the fine reading, mod 2^CARRIER, holds up to 2 * 4^HIGHEST units


@dataclass(frozen=True)
class Readings:
    """Two readings of x, of which the coarse one holds larger numbers."""

    fine: int  # fraction bits of the fine one
    coarse: Format  # fewer fraction bits, in a ring of an even number of bits

    @property
    def digits(self) -> tuple[int, int]:
        """Digits of the coarse reading, from the end of the fine one to the end of its own ring."""
        return HIGHEST - (self.fine - self.coarse.fraction) // 2, self.coarse.bits // 2 - 1

    def scales(self, low: int, fraction: int, gain: float) -> tuple[Scales, int]:
        """Scales of the fine root, and the fraction bits of the coarse one that lead to the same scale."""
        first, last = self.digits
        if self.fine % 2 or self.coarse.fraction % 2 or self.coarse.bits % 2 or not 0 < first < last:
            raise ProtocolError(f"{self}", "even scales and an even ring, the coarse reading well below")
        fine = Scales.of("rsqrt", self.fine, (low, HIGHEST), fraction, gain)
        return fine, fine.product + fine.exponent - (last - self.coarse.fraction // 2)


def wide_rsqrt(
    party: Party, fine: Sum3, coarse: Sum3, pivot: int, format: Format, low: int = 1, gain: float = 1.0
) -> Protocol[Replicated]:
    """gain / sqrt(x), (n,), in `format`, of x in two readings (`Readings`).

    low: of the fine reading's digits, as in `rsqrt`. Error: that of `rsqrt`, and the coarse reading's.
    Condition: 0 < x < 2^(ring - 2) units of the coarse reading. Rounds: 8; bits: `wide_rsqrt_cost`.
    """
    readings = Readings(fine.fraction, coarse.format)
    scales, kept = readings.scales(low, format.fraction, gain)
    first, last = readings.digits
    # 1. both are scaled to the window, which also yields [x is small enough for the fine one]
    seen = [split(party, x, pivot, x.format) for x in (fine, coarse)]
    near, far = yield from parallel(
        [
            to_window(party, seen[0], low, HIGHEST),
            to_window(party, seen[1], first, last, power_bits=CARRIER, flagged=True),
        ]
    )
    assert far.small is not None
    # 2. both roots, while a gate clears the power of the unused one
    rest = gain / 2.0**scales.exponent
    small, inverse, other = yield from parallel(
        [
            _gated(party, near.power, far.small),
            in_window(party, near.value, "rsqrt", HIGHEST, scales.kept, rest),
            in_window(party, far.value, "rsqrt", last, kept, rest),
        ]
    )
    by = far.small.format.word.type(1 << (last - first))  # the power where x is small
    large = far.power - far.small.times(by)
    # 3. the sum of root times power
    product = multiply(party, inverse.with_fraction(scales.product), small)
    product = product + multiply(party, other.with_fraction(scales.product), large)
    missing = format.fraction - scales.product
    if missing > 0:
        product = product.times(product.format.word.type(1 << missing), missing)
    return (yield from resolve(party, product, pivot, format))


def _gated(party: Party, power: Replicated, bit: Replicated) -> Protocol[Replicated]:
    yield from settle(party, power)
    return (yield from settle(party, replicate_sum(party, multiply(party, power, bit))))


def wide_rsqrt_cost(
    elements: int, readings: Readings, format: Format, low: int = 1, gain: float = 1.0
) -> Cost:
    scales, kept = readings.scales(low, format.fraction, gain)
    first, last = readings.digits
    rest = gain / 2.0**scales.exponent
    ring = readings.coarse.bits
    read = split_cost(elements, CARRIER).bits + split_cost(elements, ring).bits
    both = window_cost(elements, low, HIGHEST, CARRIER) | window_cost(
        elements, first, last, ring, power_bits=CARRIER, flagged=True
    )
    roots = in_window_cost("rsqrt", elements, scales.kept, rest) | in_window_cost(
        "rsqrt", elements, kept, rest
    )
    gated = replicate_sum_cost(elements, CARRIER).bits
    product = resolve_cost(elements, max(0, scales.product - format.fraction), CARRIER, bits=format.bits)
    return Cost(0, read + gated) + both + roots + product
