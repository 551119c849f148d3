"""Work spread over the three pivots, so that the three parties send equally much.

A large value is cut in three, and each pivot leads one part, side by side. A small one is led by one pivot,
whose turn rotates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3, joined
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.ops.registry import FRACTION, Operand

S = TypeVar("S", bound=Form)
SMALLEST_SPREAD = 1536  # below it three sets of messages cost more than they balance

FEW_ROWS = 96  # below it one pivot leads the roots or reciprocals of rows


def slices(size: int, least: int = SMALLEST_SPREAD) -> list[slice]:
    """The parts that `size` elements (or rows) are cut into: three, or one if they are fewer than `least`."""
    return [slice(0, size)] if size < least else thirds(size)


def parts(size: int, least: int = SMALLEST_SPREAD) -> list[int]:
    """The sizes of these parts."""
    return [part.stop - part.start for part in slices(size, least)]


def over_parts(size: int, cost: Callable[[int], Cost], least: int = SMALLEST_SPREAD) -> Cost:
    """The cost of a protocol that runs on each part."""
    total = FREE
    for part in parts(size, least):
        total |= cost(part)
    return total


def spread(party: Party, x: S, protocol: Callable[[S, int], Protocol[Replicated]]) -> Protocol[Replicated]:
    """protocol(part, pivot) on the parts of a flattened x; the results joined in x's shape."""

    def alone(values: Sequence[S], pivot: int) -> Protocol[list[Replicated]]:
        return [(yield from protocol(values[0], pivot))]

    (result,) = yield from spread_all(party, [x], alone)
    return result


def spread_all(
    party: Party,
    values: Sequence[S],
    protocol: Callable[[Sequence[S], int], Protocol[Sequence[Replicated]]],
    least: int = SMALLEST_SPREAD,
) -> Protocol[list[Replicated]]:
    """protocol(parts, pivot) on the parts of several values of one shape; its results have that shape too."""
    shape, pieces = values[0].shape, slices(values[0].size, least)
    flat = [value.flat() for value in values]
    if len(pieces) == 1:
        done = yield from protocol(flat, party.next_pivot())
        return [result.reshape(shape) for result in done]
    found = yield from parallel(
        protocol([value[piece] for value in flat], pivot) for pivot, piece in enumerate(pieces)
    )
    return [joined(results).reshape(shape) for results in zip(*found, strict=True)]


def truncated(party: Party, x: Shares, fraction: int = FRACTION) -> Protocol[Replicated]:
    """The truncation of a product, or of a value at another scale, to a Replicated value mod 2^64."""
    if isinstance(x, Replicated) and x.fraction == fraction:
        return x
    return (
        yield from spread(party, x, lambda part, pivot: resolve(party, part, pivot, x.format.at(fraction)))
    )


def truncated_cost(operand: Operand) -> Cost:
    fraction = operand.resting
    if operand.form is Replicated and operand.fraction == fraction:
        return FREE
    return shift_cost(operand.size, operand.fraction - fraction, RESTING.bits, operand.form)


def shift_cost(size: int, shift: int, ring: int, form: type = Sum3) -> Cost:
    """The truncation by `shift` bits of `size` elements mod 2^ring, spread over the pivots."""
    return over_parts(size, lambda n: resolve_cost(n, shift, ring, form))
