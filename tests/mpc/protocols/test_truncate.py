"""Lift and truncation: exact over the whole stated range, unbiased rounding, never a large error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.linear import matmul, multiply
from onnxpuma.mpc.protocols.truncate import lift, resolve
from onnxpuma.mpc.ring.words import encode, from_integers, reduced, signed
from onnxpuma.mpc.simulate import Run, shared_words, simulate

RNG = np.random.default_rng(7)


def edges(largest: int) -> np.ndarray:
    """Values up to +-largest: zero, one unit on either side of it and of each power of two, the extremes."""
    powers = [1 << i for i in range(largest.bit_length())]
    around = {v + d for p in powers for v in (p, -p) for d in (-1, 0, 1)} | {largest, -largest, 0, 1, -1}
    return np.array(sorted(v for v in around if abs(v) <= largest), np.int64)


def lifted(values: np.ndarray, k: int, bits: int, pivot: int) -> np.ndarray:
    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from lift(party, see(party, x, pivot), bits))

    run = simulate(program, shared_words(from_integers(values, k), k, 9))
    assert (run.results[0].bits, run.results[0].fraction) == (bits, 9)
    for i, held in enumerate(run.results):
        assert np.array_equal(reduced(held.second, bits), reduced(run.results[(i + 1) % 3].first, bits))
    return signed(run.words(), bits)


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize(("k", "bits"), [(4, 8), (20, 32), (28, 60), (46, 64), (63, 64), (30, 33)])
def test_a_lift_is_exact(k: int, bits: int, pivot: int) -> None:
    largest = 1 << (k - 2)
    inner = edges(largest - 1)
    values = np.concatenate([inner, [-largest], RNG.integers(-largest, largest, 4000)])
    values = np.tile(values, 4)  # each with several shares
    assert np.array_equal(lifted(values, k, bits, pivot), values)


def test_a_lift_is_exact_for_all_values_and_all_shares() -> None:
    k, bits = 6, 9
    values, b = (w.reshape(-1) for w in np.meshgrid(np.arange(-16, 16), np.arange(64), indexing="ij"))

    def program(party: Party) -> Protocol[Replicated]:
        role = party.role(2)
        words = from_integers(values - b if role == PIVOT else b, k)
        return (yield from lift(party, Split(role, 2, words, Format(k, 0)), bits))

    assert np.array_equal(signed(simulate(program).words(), bits), values)


@pytest.mark.parametrize(("k", "bits"), [(64, 64), (40, 32), (12, 12)])
def test_to_the_same_ring_or_a_smaller_one_any_value_is_exact(k: int, bits: int) -> None:
    values = RNG.integers(-(1 << (bits - 1)), 1 << (bits - 1), 3000, np.int64)
    assert np.array_equal(lifted(values, k, bits, 1), values)


def resolved(values: np.ndarray, factor: int, pivot: int = 0, made: Format = RESTING) -> Run:
    """values * factor, at 36 fraction bits, resolved."""

    def program(party: Party, x: Replicated, y: Replicated) -> Protocol[Replicated]:
        return (yield from resolve(party, multiply(party, x, y), pivot, made))

    words = from_integers(values, 64)
    return simulate(program, shared_words(words, 64, 18), shared_words(np.full_like(words, factor), 64, 18))


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_products_over_the_whole_range(pivot: int) -> None:
    """|z| < 2^62: the error is within 1.5 units, even at the extremes."""
    unit = 1 << 18
    largest = (1 << 62) - 2 * unit
    values = np.concatenate([edges(largest), RNG.integers(-largest, largest, 20_000)])
    run = resolved(values, 1, pivot)
    assert (run.results[0].bits, run.results[0].fraction) == (64, 18)
    exact = np.floor_divide(values, unit)
    error = (signed(run.words(), 64) - exact) - (values - exact * unit) / unit
    assert np.abs(error).max() <= 1.5


def test_products_are_unbiased() -> None:
    """The mean error is zero within four standard errors, so errors do not add up over many layers."""
    for values, factor in (
        (RNG.integers(-(1 << 40), 1 << 40, 200_000), 12345),
        (np.full(200_000, 100_001), 3),
        (np.full(200_000, -1), 1),
    ):
        error = signed(resolved(values, factor).words(), 64) - values * factor / 2.0**18
        assert abs(error.mean()) < 6 * error.std() / len(error) ** 0.5 + 2.0**-17
        assert error.std() < 0.6


@pytest.mark.parametrize(
    ("fraction", "bits"), [(18, 64), (14, 28), (22, 64), (24, 40), (0, 20), (36, 64), (40, 64)]
)
def test_other_scales_and_rings(fraction: int, bits: int) -> None:
    values = RNG.integers(-(1 << 30), 1 << 30, 5000)
    run = resolved(values, 1 << 10, made=Format(bits, fraction))
    assert (run.results[0].bits, run.results[0].fraction) == (bits, fraction)
    error = signed(run.words(), bits) - values * 2.0 ** (10 + fraction - 36)
    assert np.abs(error).max() <= (1.5 if fraction < 36 else 0)


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_a_replicated_value_at_another_scale(pivot: int) -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        down = yield from resolve(party, x, pivot, RESTING)
        same = yield from resolve(party, x, pivot, RESTING.at(30))
        narrow = yield from resolve(party, x, pivot, Format(50, 30))
        up = yield from resolve(party, x, pivot, RESTING.at(33))
        return down, same, narrow, up

    values = np.concatenate([edges((1 << 46) - 1), RNG.integers(-(1 << 46), 1 << 46, 20_000)])
    results = simulate(program, shared_words(from_integers(values, 64), 64, 30)).results
    down, same, narrow, up = (sum(r[i].first for r in results) for i in range(4))
    error = signed(down, 64) - values / 2.0**12
    assert np.abs(error).max() <= 1.5
    assert abs(error.mean()) < 6 * error.std() / len(error) ** 0.5 + 2.0**-12
    assert np.array_equal(signed(same, 64), values)
    assert np.array_equal(signed(narrow, 50), values)
    assert np.array_equal(signed(up, 64), 8 * values)


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_a_replicated_value_in_the_ring_that_a_shift_leaves(pivot: int) -> None:
    """No message, and right mod 2^k for every value."""

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from resolve(party, x, pivot, Format(44, 14)))

    values = np.concatenate([edges((1 << 63) - 1), RNG.integers(-(1 << 63), (1 << 63) - 1, 20_000)])
    run = simulate(program, shared_words(from_integers(values, 64), 64, 32))
    assert (run.cost.rounds, run.cost.bits) == (0, 0)
    error = signed(run.words() - from_integers(values >> 18, 44), 44) - (values & 0x3FFFF) / 2.0**18
    assert np.abs(error).max() <= 1.5
    assert abs(error.mean()) < 6 * error.std() / len(error) ** 0.5 + 2.0**-18


def test_a_product_in_the_ring_that_a_shift_leaves_wraps_as_it_does() -> None:
    """Beyond the range of a lift too: nothing but the value mod 2^42 is asked for."""
    values = RNG.integers(-(1 << 63), (1 << 63) - 1, 20_000)
    run = resolved(values, 1, made=Format(42, 14))
    assert run.cost.rounds == 1
    error = signed(run.words() - from_integers(values >> 22, 42), 42) - (values & 0x3FFFFF) / 2.0**22
    assert np.abs(error).max() <= 1.5


def test_a_matrix_product_in_fixed_point() -> None:
    def program(party: Party, x: Replicated, y: Replicated) -> Protocol[Replicated]:
        return (yield from resolve(party, matmul(party, x, y), 1, RESTING))

    x, y = RNG.normal(0, 2, (30, 200)), RNG.normal(0, 2, (200, 20))
    shared = [shared_words(encode(w, 18), 64, 18) for w in (x, y)]
    run = simulate(program, *shared)
    assert np.abs(run.value() - x @ y).max() < 200 * 8 * 2.0**-18
