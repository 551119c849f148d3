"""Work spread over the three pivots, so that the three parties send equal amounts.

A large value is cut in three, and each pivot leads one part, side by side. A small one has one pivot, whose
turn rotates. Costs and protocols ask the same functions for the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.forms import Form, joined
from onnxpuma.mpc.party import Party, Protocol, parallel

S = TypeVar("S", bound=Form)
R = TypeVar("R", bound=Form)
P = TypeVar("P")
T = TypeVar("T")
SMALLEST_SPREAD = 2048  # elements; for fewer, three sets of messages cost more than they balance
FEW_ROWS = 96  # rows with one number each; fewer are led by one pivot


def thirds(size: int) -> list[slice]:
    """Three slices of about equal size, one for each pivot."""
    return [slice(size * i // 3, size * (i + 1) // 3) for i in range(3)]


def slices(size: int, least: int = SMALLEST_SPREAD) -> list[slice]:
    """The parts of `size` elements or rows: three, or one of fewer than `least`."""
    return [slice(0, size)] if size < least else thirds(size)


def blocks(rows: int, length: int) -> list[tuple[slice, slice]]:
    """The parts of (rows, length), as (rows, columns): whole rows, or three pieces of a few long ones."""
    if rows * length < SMALLEST_SPREAD:
        return [(slice(0, rows), slice(0, length))]
    if rows >= 3:
        return [(piece, slice(0, length)) for piece in thirds(rows)]
    return [(slice(0, rows), piece) for piece in thirds(length)]


def runs(lengths: np.ndarray) -> list[tuple[slice, slice]]:
    """The parts of rows of these lengths that lie end to end, as (rows, elements): whole rows, and about
    equally many elements in each part."""
    ends = np.cumsum(lengths)
    size = int(ends[-1]) if len(ends) else 0
    if size < SMALLEST_SPREAD or len(lengths) < 3:
        return [(slice(0, len(lengths)), slice(0, size))]
    cuts = [0, *(int(np.searchsorted(ends, size * i / 3, side="left")) + 1 for i in (1, 2)), len(lengths)]
    cuts = [min(c, len(lengths)) for c in cuts]
    edges = [0, *(int(ends[c - 1]) for c in cuts[1:])]
    pieces = [(slice(cuts[i], cuts[i + 1]), slice(edges[i], edges[i + 1])) for i in range(3)]
    return [(rows, elements) for rows, elements in pieces if elements.stop > elements.start]


def each_led(
    party: Party, pieces: Sequence[P], protocol: Callable[[P, int], Protocol[T]]
) -> Protocol[list[T]]:
    """protocol(part, pivot) on all parts, side by side. The next pivot in turn leads a single one."""
    pivots = range(len(pieces)) if len(pieces) > 1 else [party.next_pivot()]
    return (yield from parallel(protocol(piece, pivot) for piece, pivot in zip(pieces, pivots, strict=True)))


def over_parts(size: int, cost: Callable[[int], Cost], least: int = SMALLEST_SPREAD) -> Cost:
    """The cost of a protocol that runs on each part."""
    total = FREE
    for part in slices(size, least):
        total |= cost(part.stop - part.start)
    return total


def spread(party: Party, x: S, protocol: Callable[[S, int], Protocol[R]]) -> Protocol[R]:
    """protocol(part, pivot) on the parts of a flattened x; the results joined in x's shape."""

    def alone(values: Sequence[S], pivot: int) -> Protocol[list[R]]:
        return [(yield from protocol(values[0], pivot))]

    (result,) = yield from spread_all(party, [x], alone)
    return result


def spread_all(
    party: Party,
    values: Sequence[S],
    protocol: Callable[[Sequence[S], int], Protocol[Sequence[R]]],
    least: int = SMALLEST_SPREAD,
) -> Protocol[list[R]]:
    """protocol(parts, pivot) on the parts of several values of one shape; its results have that shape too."""
    shape, pieces = values[0].shape, slices(values[0].size, least)
    flat = [value.flat() for value in values]
    parts = [flat] if len(pieces) == 1 else [[value[piece] for value in flat] for piece in pieces]
    found = yield from each_led(party, parts, protocol)
    return [joined(results).reshape(shape) for results in zip(*found, strict=True)]
