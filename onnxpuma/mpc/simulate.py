"""All three parties in one process, a thread each, over links in memory: for tests and offline checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split, Sum3
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.prf import PartyKeys, local_keys
from onnxpuma.mpc.ring.arrays import unpacked
from onnxpuma.mpc.ring.words import Words, decode, encode
from onnxpuma.mpc.sharing import held_by, opened, share
from onnxpuma.transport.memory import memory_links, side_by_side


@dataclass
class Run:
    """The results of the three parties, and the counters of their links."""

    results: list[Any]
    cost: Cost
    sent: tuple[int, int, int]

    def words(self) -> Any:
        """The opened result of a protocol that returns one secret value, of any form (of a Bit: 0 and 1)."""
        held = self.results
        if isinstance(held[0], Bit):
            u, v = (h for h in held if h.role != PIVOT)
            return unpacked(u.plane ^ v.plane, u.size).reshape(u.shape)
        if isinstance(held[0], Split):
            parts = [next(h.words for h in held if h.role == role) for role in (PIVOT, U)]
        elif isinstance(held[0], Pair):
            parts = [h.words for h in held if h.role != PIVOT]
        else:
            parts = [h.words if isinstance(h, Sum3) else h.first for h in held]
        return opened(parts, held[0].bits)

    def value(self) -> npt.NDArray[np.float64]:
        """The opened result as real numbers."""
        return decode(self.words(), self.results[0].fraction, self.results[0].bits)


def simulate(
    program: Callable[..., Protocol[Any]],
    *shared: Sequence[Any],
    keys: Sequence[PartyKeys] | None = None,
    timeout: float = 60.0,
) -> Run:
    """Run program(party, *values) at each party. An item of `shared` lists the three parties' values."""
    links = memory_links(timeout=timeout)
    keys = keys or local_keys()
    parties = [Party(links[i], keys[i]) for i in range(3)]
    results: list[Any] = [None] * 3

    def work(index: int) -> None:
        party = parties[index]
        results[index] = party.run(program(party, *(values[index] for values in shared)))

    side_by_side(links, parties[0].session, work)
    sent = tuple(link.traffic.payload_sent for link in links)
    return Run(results, Cost(max(p.round for p in parties), 8 * sum(sent)), sent)  # type: ignore[arg-type]


def shared_words(words: Words, bits: int, fraction: int = 0) -> list[Replicated]:
    """The three parties' shares of ring words."""
    components = share(words, bits)
    return [held_by(i, components, Format(bits, fraction)) for i in range(3)]


def shared_reals(
    values: npt.ArrayLike, fraction: int = RESTING.fraction, bits: int = RESTING.bits
) -> list[Replicated]:
    """The three parties' shares of real numbers."""
    return shared_words(encode(values, fraction, bits), bits, fraction)
