"""The largest element of each row: exact for the words as read, for rows of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.maximum import (
    bracket,
    groups_by_level,
    row_maximum,
    row_maximum_by_fours,
    row_maximum_by_fours_cost,
    row_maximum_cost,
)
from onnxpuma.mpc.ring.words import from_integers, signed
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(11)


WAYS = {
    "by twos": (row_maximum, row_maximum_cost),
    "by fours": (row_maximum_by_fours, row_maximum_by_fours_cost),
}
BOTH = pytest.mark.parametrize("way", WAYS)


def maxima(values: np.ndarray, lengths: list[int], bits: int, pivot: int, way: str) -> np.ndarray:
    protocol, cost = WAYS[way]

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        highest = yield from protocol(party, see(party, x, pivot), np.array(lengths))
        return (yield from settle(party, highest))

    run = simulate(program, shared_words(from_integers(values, bits), bits, 3))
    assert run.cost == cost(len(values), np.array(lengths), bits)
    assert (run.results[0].bits, run.results[0].fraction, run.results[0].shape) == (bits, 3, (len(lengths),))
    return signed(run.words(), bits)


def expected(values: np.ndarray, lengths: list[int]) -> np.ndarray:
    return np.array([row.max() for row in np.split(values, np.cumsum(lengths)[:-1])])


@BOTH
@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize(
    "lengths",
    [[1], [2], [3], [1, 1, 1], [5, 1, 2], [7, 7, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9], [64, 1, 33], [100]],
)
def test_ragged_rows(lengths: list[int], pivot: int, way: str) -> None:
    for bits in (5, 12, 20):
        reach = 1 << (bits - 2)
        values = RNG.integers(-reach, reach, sum(lengths))
        assert np.array_equal(maxima(values, lengths, bits, pivot, way), expected(values, lengths))


@BOTH
def test_many_rows_of_random_lengths(way: str) -> None:
    lengths = RNG.integers(1, 40, 200).tolist()
    values = RNG.integers(-512, 512, sum(lengths))
    assert np.array_equal(maxima(values, lengths, 12, 1, way), expected(values, lengths))


@BOTH
def test_ties_and_the_largest_difference(way: str) -> None:
    values = np.array([5, 5, 5, -1024, 1023, -1024, 1023, 1023, -1024, 0, -1, 1])
    lengths = [3, 3, 3, 3]
    assert np.array_equal(maxima(values, lengths, 12, 0, way), [5, 1023, 1023, 1])


@BOTH
def test_only_differences_within_a_row_matter(way: str) -> None:
    """Rows that are far apart, near the ends of the ring."""
    values = np.array([2000, 2047, 2040, -2048, -2040, -2001])
    assert np.array_equal(maxima(values, [3, 3], 12, 2, way), [2047, -2001])


def test_a_row_without_elements() -> None:
    with pytest.raises(ProtocolError, match="no maximum"):
        bracket([3, 0, 2], 2)


def test_a_bracket_halves_each_row() -> None:
    lengths = [9, 1, 4]
    levels = bracket(lengths, 2)
    assert len(levels) == 4
    current = np.arange(14)
    for (left, right), alone, order in levels:
        winners = np.maximum(current[left], current[right])
        current = np.concatenate([winners, current[alone]])[order]
    assert list(current) == [8, 9, 13]


def test_a_price_counts_the_pairs_of_a_bracket() -> None:
    for lengths in ([1], [1, 1, 1], [5, 1, 2, 8], [7] * 30, list(range(1, 40))):
        for size in (2, 4):
            counts = list(groups_by_level(np.array(lengths), size))
            assert counts == [members.shape[1] for members, *_ in bracket(lengths, size)]
