"""Rows times factors that the twins hold: exact to a unit, at the declared cost, at every pivot."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.row_factor import times_factors, times_factors_cost
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import from_integers, signed
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(7)


def at_twins(role: int, pivot: int, factors: np.ndarray, wide: int, masks: Long) -> LongPair:
    """Whole numbers (rows,) as a LongPair: one twin holds the masks, the other the rest."""
    words = None
    if role == 1:
        words = masks
    elif role == 2:
        words = Long.constants([int(v) for v in factors]) - masks
    return LongPair(role, pivot, words, factors.shape, wide)


def products(
    x: np.ndarray, factors: np.ndarray, bits: int, wide: int, made: Format, pivot: int
) -> np.ndarray:
    """x (rows, n) at 18 fraction bits times factors at 28, in units of `made`."""
    masks = Long(*(RNG.integers(0, 1 << 63, len(factors), np.uint64) for _ in range(2)))

    def program(party: Party, shared: Replicated) -> Protocol[Replicated]:
        pair = at_twins(party.role(pivot), pivot, factors, wide, masks)
        return (yield from times_factors(party, shared, pair, 28, made))

    run = simulate(program, shared_words(from_integers(x, bits), bits, 18))
    assert run.cost == times_factors_cost(*x.shape, bits, wide, made.bits)
    assert run.results[0].format == made
    return signed(run.words(), made.bits)


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize(("bits", "wide", "made"), [(64, 90, 62), (64, 73, 45), (64, 92, 64), (48, 73, 45)])
def test_products_are_right_to_a_unit(bits: int, wide: int, made: int, pivot: int) -> None:
    """Up to both ends of x's ring, and of the result's: |x r| 2^-28 is below 2^(made - 1) units."""
    most = 1 << (bits - 2)
    for rows, count in ((1, 1), (5, 33), (64, 3)):
        factors = RNG.integers(0, 1 << 24, rows)
        reach = min(most, 1 << (made + 2))
        x = RNG.integers(-reach, reach, (rows, count))
        x[0, :1], x[-1, -1:] = -reach, reach - 1
        exact = [[int(v) * int(r) / 2.0**28 for v in row] for row, r in zip(x, factors, strict=True)]
        found = products(x, factors, bits, wide, Format(made, 18), pivot)
        assert np.abs(found.astype(np.float64) - exact).max() <= 1 + 2.0 ** (made - 52)


def test_the_rounding_has_mean_zero() -> None:
    x = np.full((1, 40_000), 12_345_678_901)
    found = products(x, np.array([987_654_321]), 64, 90, Format(62, 18), 1)
    assert abs((found - 12_345_678_901 * 987_654_321 / 2.0**28).mean()) < 0.02
