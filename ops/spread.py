"""Work spread over the three pivots, so that the three parties send equally much.

A large elementwise operand is cut in three, one part led by each pivot, side by side. A small one is led
by one pivot; whose turn it is rotates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.ops.registry import FRACTION, Operand

SMALLEST_SPREAD = 1536  # below it three sets of messages cost more than they balance


def parts(size: int) -> list[int]:
    """Sizes of the parts that an operand of `size` elements (or rows) is cut into."""
    return [size] if size < SMALLEST_SPREAD else [s.stop - s.start for s in thirds(size)]


def over_parts(size: int, cost: Callable[[int], Cost]) -> Cost:
    """The cost of a protocol run on each part."""
    total = FREE
    for part in parts(size):
        total |= cost(part)
    return total


def spread(
    party: Party, x: Replicated | Sum3, protocol: Callable[[Replicated | Sum3, int], Protocol[Replicated]]
) -> Protocol[Replicated]:
    """protocol(part, pivot) on the parts of a flattened x; the results joined in x's shape."""
    shape = x.shape
    flat = x.map(lambda w: np.ascontiguousarray(w).reshape(-1))
    if x.size < SMALLEST_SPREAD:
        done = yield from protocol(flat, party.next_pivot())
        return done.map(lambda w: w.reshape(shape))
    pieces = yield from parallel(
        protocol(sliced(flat, piece), pivot) for pivot, piece in enumerate(thirds(x.size))
    )
    return joined(pieces, shape)


def sliced(x: Replicated | Sum3, piece: slice) -> Replicated | Sum3:
    """Elements of a flat value."""
    return x.map(lambda w: w[piece])


def joined(pieces: list[Replicated], shape: tuple[int, ...]) -> Replicated:
    """Flat parts end to end, in the given shape."""
    first = np.concatenate([p.first for p in pieces]).reshape(shape)
    second = np.concatenate([p.second for p in pieces]).reshape(shape)
    return Replicated(pieces[0].party, first, second, pieces[0].format)


def truncated(party: Party, x: Replicated | Sum3, fraction: int = FRACTION) -> Protocol[Replicated]:
    """The truncation of a product (or of a value at another scale) to a Replicated mod 2^64."""
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
