"""The cost of a protocol: rounds, and the bits that all three parties send together.

`a + b` runs one after the other, `a | b` side by side. A test compares each declared cost with the links'
counters. A network turns a cost into seconds: where there are several ways to one result, a plan takes the
fastest on its network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

W = TypeVar("W", bound=Hashable)


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


@dataclass(frozen=True, slots=True)
class Network:
    """The network between the parties."""

    # Bits per second that one party can send.
    bandwidth: float = 1e9
    # Seconds that a message travels, one way.
    latency: float = 1e-4

    def seconds(self, cost: Cost) -> float:
        """Time on the wire alone: each round waits once, and the three parties send side by side."""
        return cost.rounds * self.latency + cost.bits / 3 / self.bandwidth

    def fastest(self, ways: Mapping[W, Cost]) -> W:
        """The way to a result that takes the least time; of equal ones the first.

        ways: by a name of a few words, or a member of an enumeration that has such a name for its value.
        Reports list them.
        """
        return min(ways, key=lambda way: self.seconds(ways[way]))


USUAL = Network()
