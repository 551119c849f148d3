"""The cost of a protocol: rounds, and the bits that all three parties send together.

`a + b` runs one after the other, `a | b` side by side. A test compares each declared cost with the links'
counters.
"""

from __future__ import annotations

from dataclasses import dataclass


def packed(elements: int, bits: int) -> int:
    """Bits of one buffer on the wire: `bits` an element, rounded up to whole bytes."""
    return -(-elements * bits // 8) * 8


@dataclass(frozen=True, slots=True)
class Cost:
    """Rounds (simultaneous exchanges) and bits sent, summed over the parties."""

    rounds: int = 0
    bits: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.rounds + other.rounds, self.bits + other.bits)

    def __or__(self, other: Cost) -> Cost:
        return Cost(max(self.rounds, other.rounds), self.bits + other.bits)

    def __mul__(self, times: int) -> Cost:
        """The same protocol several times, side by side."""
        return Cost(self.rounds if times else 0, self.bits * times)

    @property
    def bytes(self) -> float:
        return self.bits / 8

    def merged(self, rounds: int = 1) -> Cost:
        """The same protocol when its first messages travel with earlier exchanges: `rounds` fewer."""
        return Cost(self.rounds - rounds, self.bits)


FREE = Cost()
