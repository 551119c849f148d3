"""The largest elements of each row in their order, by comparisons that all parties see (docs/protocols.md,
"Order").

The elements are distinct, and in an order that no party knows (shuffle.py). So the outcome of any comparisons
among them has one distribution, whatever the elements are [HKICT12]. That outcome says which elements are
left, so most of a long row drops out after one comparison each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.cost import FREE, Cost, Network, packed
from onnxpuma.mpc.forms import Bit, Replicated, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.pivots import each_led, over_parts, slices
from onnxpuma.mpc.ring.arrays import indices, joined, unpacked, zeros

Flags = npt.NDArray[np.bool_]
_RARE = 22  # a stage fails at either end with a probability below 2^-_RARE
_SAMPLES = (32, 64, 96, 128, 192)
_MOST_STAGES = 5


@dataclass(frozen=True)
class Stage:
    """Of the elements that are left, those from the `rank`-th largest of a sample on."""

    sample: int
    rank: int
    kept: int  # elements that are left after it


# ---- the schedule -------------------------------------------------------------------------------------


def _tail(length: int, marked: int, sample: int) -> Iterator[int]:
    """For r = 0, 1, ... the samples of `length` elements that have at most r of the marked ones."""
    term = comb(length - marked, sample)
    total = 0
    for r in range(sample + 1):
        if not term:
            term = comb(marked, r) * comb(length - marked, sample - r)
        total += term
        yield total
        rest = length - marked - sample + r + 1
        term = term * (marked - r) * (sample - r) // ((r + 1) * rest) if rest > 0 else 0


@lru_cache(maxsize=256)
def _stage(length: int, k: int, sample: int) -> Stage | None:
    """The stage with this sample that keeps the k largest; None if it keeps nearly all."""
    every, rank = comb(length, sample), 0
    for r, few in enumerate(_tail(length, k - 1, sample)):
        if (every - few) << _RARE <= every:
            rank = r + 1
            break
    low, high = rank, length
    while low < high:
        middle = (low + high) // 2
        few = next(t for r, t in enumerate(_tail(length, middle, sample)) if r == rank - 1)
        if few << _RARE <= every:
            high = middle
        else:
            low = middle + 1
    coarse = max(0, low.bit_length() - 4)
    kept = -(-low >> coarse) << coarse
    return Stage(sample, rank, kept) if k <= kept < length else None


@lru_cache(maxsize=1024)
def _cheapest(length: int, k: int, stages: int) -> tuple[int, tuple[Stage, ...]] | None:
    """The comparisons of the cheapest way with so many stages, and the stages."""
    if not stages:
        return length * (length - 1) // 2, ()
    found = []
    for sample in _SAMPLES:
        stage = _stage(length, k, sample) if sample < length // 2 else None
        rest = _cheapest(stage.kept, k, stages - 1) if stage else None
        if stage and rest:
            pairs = sample * (sample - 1) // 2
            found.append((pairs + length + rest[0], (stage, *rest[1])))
    return min(found, default=None, key=lambda way: way[0])


def schedule(rows: int, length: int, k: int, bits: int, network: Network) -> tuple[Stage, ...]:
    """The fastest way to the k largest of rows of this length."""
    ways: dict[str, tuple[Stage, ...]] = {}
    for count in range(_MOST_STAGES + 1):
        found = _cheapest(length, k, count)
        if found:
            ways[f"{count} samples"] = found[1]
    costs = {name: leading_cost(rows, length, bits, stages) for name, stages in ways.items()}
    return ways[network.fastest(costs)]


# ---- the protocol -------------------------------------------------------------------------------------


def leading(party: Party, x: Replicated, k: int, stages: Sequence[Stage]) -> Protocol[Replicated]:
    """The k largest of each row (rows, n), the largest first: (rows, k), in x's format.

    All parties learn the order of the elements, as far as it is compared. Conditions: the elements of a row
    are distinct and in an order that is uniform to each party; two of them differ by less than 2^(k-1). Each
    stage misses one of the largest with a probability below 2^-21. Masks: those of `wide_negative` and
    `revealed`. Rounds: 8 a stage and 4; bits: `leading_cost`.
    """
    for stage in stages:
        length = x.shape[1]
        # 1. the rank-th largest of a sample
        spots = indices(stage.sample) * length // stage.sample
        ranks = yield from _ranks(party, x.take(spots, 1))
        least = spots[(ranks == stage.rank - 1).argmax(axis=1)][:, None]
        # 2. what reaches it
        below = yield from _below_zero(party, x - x.take_along(least, 1).broadcast_to(x.shape))
        left = below.argsort(axis=1, kind="stable")[:, : stage.kept]
        x = x.take_along(np.sort(left, axis=1), 1)
    # 3. the order of those that are left
    ranks = yield from _ranks(party, x)
    return x.take_along(ranks.argsort(axis=1)[:, :k], 1)


def leading_cost(rows: int, length: int, bits: int, stages: Sequence[Stage]) -> Cost:
    total = FREE
    for stage in stages:
        total = total + _ranks_cost(rows, stage.sample, bits) + _below_zero_cost(rows * length, bits)
        length = stage.kept
    return total + _ranks_cost(rows, length, bits)


def _ranks(party: Party, x: Replicated) -> Protocol[npt.NDArray[np.int64]]:
    """How many elements of its row are larger than each: (rows, n) to (rows, n)."""
    rows, length = x.shape
    first, second = np.triu_indices(length, 1)
    smaller = yield from _below_zero(party, x.take(first, 1) - x.take(second, 1))
    larger = zeros((rows, length, length), 8)
    larger[:, first, second] = smaller
    larger[:, second, first] = ~smaller
    return larger.sum(axis=2, dtype=np.int64)


def _ranks_cost(rows: int, length: int, bits: int) -> Cost:
    return _below_zero_cost(rows * (length * (length - 1) // 2), bits)


def _below_zero(party: Party, x: Replicated) -> Protocol[Flags]:
    """[x < 0], which all parties see."""
    if not x.size:
        return zeros(x.shape, 8).astype(np.bool_)
    flat = x.flat()

    def each(piece: slice, pivot: int) -> Protocol[Flags]:
        bit = yield from wide_negative(party, see(party, flat[piece], pivot))
        return (yield from revealed(party, bit))

    found = yield from each_led(party, slices(x.size), each)
    return joined(found).reshape(x.shape)


def _below_zero_cost(elements: int, bits: int) -> Cost:
    if not elements:
        return FREE
    return over_parts(elements, lambda n: wide_negative_cost(n, bits) + revealed_cost(n))


def revealed(party: Party, q: Bit) -> Protocol[Flags]:
    """The bits themselves, which all three parties learn: only for bits that say nothing of a secret.

    Masks: F_{p+2} on what the pivot receives, so that it learns the bits alone; a twin's bit follows from the
    result and the other's. Rounds: 1; bits: 4.
    """
    p, size = q.pivot, q.size
    planes = (-(-size // 8),)
    if q.role == PIVOT:
        late = [party.expect(p + role, planes, 8) for role in (U, V)]
        yield
        plane = late[0].take() ^ late[1].take()
    else:
        other = p + (V if q.role == U else U)
        party.send(p, q.plane ^ party.draw_planes(p + 2, 1, size)[0], 8)
        party.send(other, q.plane, 8)
        theirs = party.expect(other, planes, 8)
        yield
        plane = q.plane ^ theirs.take()
    return unpacked(plane, size).astype(np.bool_).reshape(q.shape)


def revealed_cost(elements: int) -> Cost:
    return Cost(1, 4 * packed(elements, 1))
