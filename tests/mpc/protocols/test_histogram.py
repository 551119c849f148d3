"""A number near the largest element of each row, for rows of any length, from shared histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.histogram import Histogram, row_peak, row_peak_cost, zero_counts, zero_counts_cost
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.words import from_integers, word_type
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(12)
POINT = 9
HOW = [Histogram(6, 4, 0), Histogram(6, 3, 2), Histogram(8, 6, 1), Histogram(3, 4, 1)]


def peaks(words: np.ndarray, lengths: list[int], how: Histogram, pivot: int = 0) -> np.ndarray:
    """words: less the row's first."""
    bits, kept = POINT + how.span + 2, POINT + how.span + 1

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        found = yield from row_peak(party, see(party, x, pivot), np.array(lengths), how, kept)
        return (yield from settle(party, found))

    run = simulate(program, shared_words(from_integers(words, bits), bits, POINT))
    assert run.cost == row_peak_cost(np.array(lengths), how, kept)
    assert (run.results[0].format, run.results[0].shape) == (Format(kept, POINT), (len(lengths),))
    return run.value()


def rows_within(lengths: list[int], how: Histogram) -> np.ndarray:
    """Rows whose elements lie less than `how.spread` apart, less their first: up to both ends."""
    most = int(how.spread * 2**POINT) - 1
    size = [1.0, 0.5, 0.01][RNG.integers(3)]
    x = RNG.integers(0, max(1, int(most * size)), sum(lengths))
    edge = RNG.random(len(x))
    x = np.where(edge < 0.1, 0, np.where(edge > 0.9, most, x))
    starts = np.cumsum(lengths) - lengths
    return x - np.repeat(x[starts], lengths)


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "lengths", [[1], [2], [1, 1], [5, 1, 2], [1, 2, 3, 4, 9], [64, 1, 33], [128] * 9, [700]]
)
def test_ragged_rows(lengths: list[int], how: Histogram, pivot: int) -> None:
    words = rows_within(lengths, how)
    found = peaks(words, lengths, how, pivot)
    starts = np.cumsum(lengths) - lengths
    apart = np.maximum.reduceat(words, starts) * 2.0**-POINT - found
    assert (-how.below < apart).all()
    assert (apart < how.above).all()
    assert not (found % how.step).any()


def test_the_bounds_are_reached() -> None:
    how = Histogram(6, 4, 1)
    found = [peaks(np.tile([0, x], 400), [2] * 400, how) for x in range(3 << POINT, 7 << POINT, 37)]
    apart = np.array([x * 2.0**-POINT for x in range(3 << POINT, 7 << POINT, 37)])[:, None] - np.array(found)
    assert -how.below < apart.min() < -0.9 * how.below
    assert 0.9 * how.above < apart.max() < how.above


@pytest.mark.parametrize("bits", range(1, 11))
def test_zero_counts_are_exact(bits: int) -> None:
    counts = np.concatenate([np.zeros(40, np.int64), np.arange(1 << bits)])
    v = RNG.integers(0, 1 << bits, len(counts))

    def program(party: Party) -> Protocol[Any]:
        share = {0: v, 1: counts - v, 2: v}[party.role(1)]
        return (yield from zero_counts(party, 1, from_integers(share, bits), counts.shape, bits))

    run = simulate(program)
    assert np.array_equal(run.words(), counts == 0)
    assert run.cost == zero_counts_cost(len(counts), bits)


def test_every_share_of_a_value() -> None:
    how, bits = Histogram(3, 2, 1), 5
    values = np.arange(-6, 7)
    b = np.repeat(np.arange(1 << bits), len(values))
    x = np.tile(values, 1 << bits)

    def program(party: Party) -> Protocol[Any]:
        words = np.stack([np.zeros_like(x), x - b if party.role(0) == PIVOT else b], axis=1).reshape(-1)
        split = Split(party.role(0), 0, from_integers(words, bits), Format(bits, 2))
        return (yield from settle(party, (yield from row_peak(party, split, np.full(len(x), 2), how, bits))))

    apart = np.maximum(x, 0) / 4 - simulate(program).value()
    assert (-how.below < apart).all()
    assert (apart < how.above).all()


@pytest.mark.parametrize("bits", [3, 9, 20, 40])
def test_turned_sums(level: str, bits: int) -> None:
    table = RNG.integers(0, 1 << bits, (50, 8)).astype(word_type(bits))
    place, turn = RNG.integers(0, 6, 50), RNG.integers(0, 8, 50)
    want = np.zeros((6, 8), table.dtype)
    for row, at, by in zip(table, place, turn, strict=True):
        want[at] += np.roll(row, by)
    assert np.array_equal(ring.turned_sums(table, place, turn, 6), want)
    assert np.array_equal(ring.turned_sums(table[:0], place[:0], turn[:0], 6), 0 * want)
    out = 0 * want
    fallback.turned_sums(out, table, place, turn)
    assert np.array_equal(out, want)


@pytest.mark.parametrize(("place", "turn"), [(6, 0), (-1, 0), (0, 8), (0, -1)])
def test_places_outside_are_refused(place: int, turn: int) -> None:
    with pytest.raises(ProtocolError, match="a place and a turn"):
        ring.turned_sums(np.zeros((1, 8), np.uint8), np.array([place]), np.array([turn]), 6)
    with pytest.raises(ProtocolError, match="a place and a turn"):
        ring.turned_sums(np.zeros((2, 8), np.uint8), np.array([0]), np.array([0]), 6)
