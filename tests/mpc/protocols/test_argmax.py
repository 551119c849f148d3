"""The index of a row's largest element: exact, the first of equal ones, at the declared cost."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.protocols.argmax import Way, argmax, argmax_cost
from onnxpuma.mpc.protocols.by_twos import tournament_cost
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(5)


def places(values: np.ndarray, bits: int, way: Way) -> np.ndarray:
    run = simulate(lambda party, x: argmax(party, x, way), shared_words(from_integers(values, bits), bits, 3))
    assert run.cost == argmax_cost(*values.shape, bits, way)
    assert (run.results[0].bits, run.results[0].fraction) == (64, 0)
    return run.words()


BOTH = pytest.mark.parametrize("way", Way)


@BOTH
@pytest.mark.parametrize("bits", [4, 12, 27, 44])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 2), (1, 3), (4, 5), (2, 8), (3, 33), (7, 12)])
def test_rows_of_any_length_with_and_without_ties(shape: tuple[int, int], bits: int, way: Way) -> None:
    for reach in (1, 2, 1 << (bits - 2)):
        values = RNG.integers(-reach, reach, shape)
        assert np.array_equal(places(values, bits, way), values.argmax(axis=1))


@BOTH
@pytest.mark.parametrize("shape", [(1, 2000), (2, 1001), (5, 700), (600, 3), (1, 1536), (3, 1301)])
def test_large_operands_are_led_by_all_three(shape: tuple[int, int], way: Way) -> None:
    for reach in (3, 1 << 20):
        values = RNG.integers(-reach, reach, shape)
        assert np.array_equal(places(values, 24, way), values.argmax(axis=1))


@BOTH
def test_every_place_of_a_long_row_can_win(way: Way) -> None:
    length = 4611  # three parts of 1537, which Way.MIXED halves once
    for turn, place in enumerate((0, 1, 1023, 1024, 1025, 1535, 1536, 1537, 3073, 3074, 4609, 4610)):
        values = np.zeros((1, length), np.int64)
        values[0, place] = 1
        assert places(values if turn % 2 else -1 + 2 * values, 8, way)[0] == place


@BOTH
def test_the_largest_differences(way: Way) -> None:
    values = np.array([[-1024, 1023, 1023], [1023, -1024, 0], [0, 1, -1]])
    assert np.array_equal(places(values, 12, way), [1, 0, 1])


def test_the_price_of_a_vocabulary() -> None:
    """Thirty bytes and a few bits per element at any length; the index accounts for half a byte."""
    cost = argmax_cost(1, 49152, 27)
    assert cost.rounds == 67
    assert cost.bytes == 1_451_676
    with_places = tournament_cost(1, 16384, 27)
    assert with_places.bytes / 16384 == pytest.approx(29.5, abs=0.1)
    fours = argmax_cost(1, 49152, 27, Way.FOURS)
    assert fours.rounds == 28
    assert fours.bytes == 5_336_338
    mixed = argmax_cost(1, 49152, 27, Way.MIXED)
    assert mixed.rounds == 39
    assert mixed.bytes == 1_768_978
