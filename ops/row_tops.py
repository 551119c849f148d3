"""The largest of each row, exactly: few long rows are spread over the three pivots."""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost, Network
from onnxpuma.mpc.forms import Replicated, joined, see, stacked
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.maximum import (
    row_maximum,
    row_maximum_by_fours,
    row_maximum_by_fours_cost,
    row_maximum_cost,
)
from onnxpuma.mpc.protocols.pivots import blocks, each_led


def tops(party: Party, x: Replicated, fours: bool) -> Protocol[Replicated]:
    """The largest of each row (rows, n), by fours or by twos: (rows,), in x's format.

    Condition: two elements of a row differ by less than 2^(k-1). Exact. Masks: those of `row_maximum`. Rounds
    and bits: `tops_cost`.
    """
    largest = row_maximum_by_fours if fours else row_maximum
    pieces = blocks(*x.shape)

    def each(piece: tuple[slice, slice], pivot: int) -> Protocol[Replicated]:
        part = x[piece]
        lengths = np.full(part.shape[0], part.shape[1])
        found = yield from largest(party, see(party, part.flat(), pivot), lengths)
        return (yield from settle(party, found))

    found = yield from each_led(party, pieces, each)
    if len(pieces) == 1:
        return found[0]
    if x.shape[0] >= 3:
        return joined(found)
    last = stacked(found, axis=1)
    seen = see(party, last.flat(), party.next_pivot())
    top = yield from largest(party, seen, np.full(x.shape[0], len(pieces)))
    return (yield from settle(party, top))


def tops_cost(rows: int, length: int, bits: int, fours: bool) -> Cost:
    largest = row_maximum_by_fours_cost if fours else row_maximum_cost
    total, pieces = FREE, blocks(rows, length)
    for r, c in pieces:
        n, m = r.stop - r.start, c.stop - c.start
        total |= largest(n * m, np.full(n, m), bits)
    if len(pieces) > 1 and rows < 3:
        total = total + largest(rows * len(pieces), np.full(rows, len(pieces)), bits)
    return total


def by_fours(rows: int, length: int, bits: int, network: Network) -> bool:
    """Whether that is faster there."""
    ways = {name: tops_cost(rows, length, bits, name == "by fours") for name in ("by twos", "by fours")}
    return network.fastest(ways) == "by fours"
