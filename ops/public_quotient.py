"""Quotients by public numbers of any size, each by a reciprocal of eighteen significant bits.

At one scale for all divisors, 1 / c has few significant bits if c is large or another divisor is far smaller.
So x is divided by 2^t first if c is large, and the bits of its divisor decide by how much each product is
truncated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated, joined, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.truncate import lift, lift_cost, resolve
from onnxpuma.ops.factors import public_scale
from onnxpuma.ops.spread import shift_cost

Part: TypeAlias = "Callable[[Replicated, int], Protocol[Replicated]]"

DIGITS = 18  # significant bits of a reciprocal
_NEAR = 8  # a divisor of at most this many bits needs no shift first


@dataclass(frozen=True)
class Scales:
    """How each element is divided."""

    # Bits by which x is shifted first.
    before: np.ndarray
    # The integer that multiplies it.
    factor: np.ndarray
    # Bits by which the product is truncated.
    after: np.ndarray

    @property
    def largest(self) -> float:
        """The results stay below this."""
        return RESTING.finer(int(self.after.max(initial=0))).largest


def is_plain(divisor: np.ndarray) -> bool:
    """Whether one scale gives every reciprocal its significant bits, with room for the result."""
    real = 1.0 / divisor.astype(np.float64)
    if np.abs(real).max(initial=0) > 2.0**_NEAR:
        return False
    fraction, integers = public_scale(real)
    return bool(np.all(np.abs(integers * 2.0**-fraction / real - 1) <= 2.0 ** (1 - DIGITS)))


def scales_of(divisor: np.ndarray, shape: tuple[int, ...]) -> Scales:
    real = np.broadcast_to(divisor.astype(np.float64), shape).reshape(-1)
    before = np.clip(np.frexp(np.abs(real))[1] - 1 - _NEAR, 0, 60).astype(np.int64)
    rest = 2.0**before / real
    after = np.clip(DIGITS - np.frexp(np.abs(rest))[1], 0, 60).astype(np.int64)
    return Scales(before, np.rint(rest * 2.0**after).astype(np.int64), after)


def divided_publicly(party: Party, x: Replicated, scales: Scales) -> Protocol[Replicated]:
    """x / c, for |x / c| below `scales.largest`.

    Error: 2^-18 of the result, and a unit and a half. Rounds: 2, or 4 if a divisor is large; bits:
    `divided_cost`.
    """
    near = yield from _by_group(party, x.flat(), scales.before, _shifted(party))
    made = near.times_integers(scales.factor)
    done = yield from _by_group(party, made, scales.after, _truncated(party))
    return done.reshape(x.shape)


def _shifted(party: Party) -> Callable[[int], Part]:
    def by(bits: int) -> Part:
        def part(x: Replicated, pivot: int) -> Protocol[Replicated]:
            seen = see(party, x.lowered(bits), pivot)
            return (yield from lift(party, seen, x.bits)).with_fraction(RESTING.fraction)

        return part

    return by


def _truncated(party: Party) -> Callable[[int], Part]:
    def by(bits: int) -> Part:
        def part(x: Replicated, pivot: int) -> Protocol[Replicated]:
            return (yield from resolve(party, x.with_fraction(x.fraction + bits), pivot, x.format))

        return part

    return by


def _by_group(
    party: Party, x: Replicated, bits: np.ndarray, part: Callable[[int], Part]
) -> Protocol[Replicated]:
    """x (n,), after the elements with nonzero `bits` went through the part for these bits."""
    groups = [(int(b), np.flatnonzero(bits == b)) for b in np.unique(bits) if b]
    if not groups:
        return x
    done = yield from parallel(spread(party, x[places], part(b)) for b, places in groups)
    return x.placed(np.concatenate([places for _, places in groups]), joined(done))


def divided_cost(scales: Scales) -> Cost:
    before, after = Cost(), Cost()
    for bits, count in zip(*np.unique(scales.before, return_counts=True), strict=True):
        if bits:
            ring = RESTING.bits - int(bits)
            before |= over_parts(int(count), lambda n, k=ring: lift_cost(n, k, RESTING.bits))  # type: ignore[misc]
    for bits, count in zip(*np.unique(scales.after, return_counts=True), strict=True):
        if bits:
            after |= shift_cost(int(count), int(bits), RESTING.bits, Replicated)
    return before + after
