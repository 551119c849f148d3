"""1 / sqrt(x) of a positive x that outgrows one word: read twice, finely and coarsely.

Where the fine reading would wrap, the coarse one counts. Both roots are made side by side, so that it takes
no more rounds than one, and a bit that normalising the coarse reading yields anyway takes the power off the
one that does not count (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import replicate_sum, replicate_sum_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import Scales, in_window, in_window_cost
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.mpc.ring.arrays import constants

HIGHEST = 30  # the fine reading holds up to 2 * 4^HIGHEST words


@dataclass(frozen=True)
class Readings:
    """Two readings of x: `fine` fraction bits mod 2^64; `coarse` fewer of them, mod 2^ring, which is even."""

    fine: int
    coarse: int
    ring: int

    @property
    def digits(self) -> tuple[int, int]:
        """Of the coarse reading: from where the fine one ends to the end of its ring."""
        return HIGHEST - (self.fine - self.coarse) // 2, self.ring // 2 - 1

    def scales(self, low: int, fraction: int, gain: float) -> tuple[Scales, int]:
        """Scales of the fine root; the fraction bits that the coarse one keeps to end at the same scale."""
        first, last = self.digits
        if self.fine % 2 or self.coarse % 2 or self.ring % 2 or not 0 < first < last:
            raise ProtocolError(f"{self}", "even scales and an even ring, the coarse reading well below")
        fine = Scales.of("rsqrt", self.fine, (low, HIGHEST), fraction, gain)
        return fine, fine.product + fine.exponent - (last - self.coarse // 2)


def wide_rsqrt(
    party: Party, fine: Sum3, coarse: Sum3, pivot: int, fraction: int, low: int = 1, gain: float = 1.0
) -> Protocol[Replicated]:
    """gain / sqrt(x), (n,), `fraction` fraction bits mod 2^64, of x in two readings (`Readings`).

    low: of the fine reading's digits, as in `rsqrt`. Error as there, and what the coarse reading adds.
    Condition: 0 < x < 2^(ring - 2) units of the coarse reading. Rounds: 8; bits: `wide_rsqrt_cost`.
    """
    readings = Readings(fine.fraction, coarse.fraction, coarse.bits)
    scales, kept = readings.scales(low, fraction, gain)
    first, last = readings.digits
    # 1. both are normalised; [x is small enough for the fine one] comes with it
    seen = [split(party, x, pivot, x.fraction, x.bits) for x in (fine, coarse)]
    near, far = yield from parallel(
        [
            to_window(party, seen[0], low, HIGHEST),
            to_window(party, seen[1], first, last, power_bits=64, flagged=True),
        ]
    )
    assert far.small is not None
    # 2. both roots, while the power of the one that does not count becomes zero
    rest = gain / 2.0**scales.exponent
    small, inverse, other = yield from parallel(
        [
            _gated(party, near.power, far.small),
            in_window(party, near.value, "rsqrt", HIGHEST, scales.kept, rest),
            in_window(party, far.value, "rsqrt", last, kept, rest),
        ]
    )
    by = constants(1 << (last - first), 64)  # the power where x is small
    large = far.power - far.small.times(by)
    # 3. the sum of root times power
    product = multiply(party, inverse.with_fraction(scales.product), small)
    product = product + multiply(party, other.with_fraction(scales.product), large)
    missing = fraction - scales.product
    if missing > 0:
        product = product.times(np.uint64(1 << missing), missing)
    return (yield from resolve(party, product, pivot, fraction))


def _gated(party: Party, power: Replicated, bit: Replicated) -> Protocol[Replicated]:
    yield from settle(party, power)
    return (yield from settle(party, replicate_sum(party, multiply(party, power, bit))))


def wide_rsqrt_cost(
    elements: int, readings: Readings, fraction: int, low: int = 1, gain: float = 1.0
) -> Cost:
    scales, kept = readings.scales(low, fraction, gain)
    first, last = readings.digits
    rest = gain / 2.0**scales.exponent
    read = split_cost(elements, 64).bits + split_cost(elements, readings.ring).bits
    both = window_cost(elements, low, HIGHEST) | window_cost(
        elements, first, last, readings.ring, power_bits=64, flagged=True
    )
    roots = in_window_cost("rsqrt", elements, scales.kept, rest) | in_window_cost(
        "rsqrt", elements, kept, rest
    )
    gated = replicate_sum_cost(elements, 64).bits
    product = resolve_cost(elements, max(0, scales.product - fraction))
    return Cost(0, read + gated) + both + roots + product
