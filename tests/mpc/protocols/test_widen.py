"""A Pair in a larger ring: exact over the whole stated range, for all halves, wherever the range begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols.widen import lift_pair, widen
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import from_integers, reduced, signed
from onnxpuma.mpc.simulate import simulate

RNG = np.random.default_rng(21)


def pair_of(party: Party, values: np.ndarray, half: np.ndarray, bits: int, pivot: int) -> Pair:
    """The values, of which u holds `half`."""
    role = party.role(pivot)
    words = nothing(values.shape, bits)
    if role != PIVOT:
        words = reduced(from_integers(half if role == U else values - half, bits), bits)
    return Pair(role, pivot, words, Format(bits, 5))


def edges(low: int, high: int) -> np.ndarray:
    """low <= v < high: the ends, and around zero and each power of two."""
    powers = [1 << i for i in range(max(-low, high).bit_length())]
    around = {v + d for p in powers for v in (p, -p) for d in (-1, 0, 1)} | {0, low, low + 1, high - 1}
    return np.array(sorted(v for v in around if low <= v < high), np.int64)


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize(("k", "bits", "least"), [(4, 8, None), (26, 60, -9), (19, 64, 0), (40, 41, -1)])
def test_exact_over_the_whole_range(k: int, bits: int, least: int | None, pivot: int) -> None:
    low = -(1 << (k - 2)) if least is None else least
    high = low + (1 << (k - 1))
    values = np.tile(np.concatenate([edges(low, high), RNG.integers(low, high, 3000)]), 3).reshape(3, -1)
    half = RNG.integers(0, 1 << k, values.shape)

    def program(party: Party) -> Protocol[Pair]:
        return (yield from widen(party, pair_of(party, values, half, k, pivot), bits, least))

    run = simulate(program)
    assert (run.results[0].format, run.results[0].shape) == (Format(bits, 5), values.shape)
    assert np.array_equal(signed(run.words(), bits), values)


@pytest.mark.parametrize("least", [None, -7, 3])
def test_exact_for_all_values_and_all_halves(least: int | None) -> None:
    low = -16 if least is None else least
    values, half = (w.reshape(-1) for w in np.meshgrid(np.arange(low, low + 32), np.arange(64)))

    def program(party: Party) -> Protocol[Replicated]:
        return (yield from lift_pair(party, pair_of(party, values, half, 6, 1), 9, least))

    run = simulate(program)
    assert np.array_equal(signed(run.words(), 9), values)
    for i, held in enumerate(run.results):
        assert np.array_equal(reduced(held.second, 9), reduced(run.results[(i + 1) % 3].first, 9))


def test_beyond_the_range_a_value_is_one_turn_of_the_ring_off() -> None:
    values, half = np.full(64, 16), np.arange(64)

    def program(party: Party) -> Protocol[Pair]:
        return (yield from widen(party, pair_of(party, values, half, 6, 0), 9))

    assert set((signed(simulate(program).words(), 9) - values).tolist()) <= {-64, 0, 64}


@pytest.mark.parametrize(("k", "bits"), [(64, 64), (40, 12), (12, 12)])
def test_to_the_same_ring_or_a_smaller_one_any_value_is_exact(k: int, bits: int) -> None:
    values = RNG.integers(-(1 << (bits - 1)), 1 << (bits - 1), 3000, np.int64)

    def program(party: Party) -> Protocol[Any]:
        y = pair_of(party, values, np.arange(3000) << (k - 12), k, 2)
        return (yield from lift_pair(party, y, bits))

    run = simulate(program)
    assert run.cost.rounds == 1
    assert np.array_equal(signed(run.words(), bits), values)
