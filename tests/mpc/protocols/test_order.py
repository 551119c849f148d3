"""Rows in a secret order, numbers from zero on, and the largest of a row by comparisons that all see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import is_negative
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.order import (
    Stage,
    _stage,
    leading,
    leading_cost,
    revealed,
    revealed_cost,
    schedule,
)
from onnxpuma.mpc.protocols.shuffle import shuffled, shuffled_cost
from onnxpuma.mpc.protocols.unsigned import unsigned, unsigned_cost
from onnxpuma.mpc.simulate import shared_words, simulate

BITS = 30


def shuffle(party: Party, x: Replicated) -> Protocol[Replicated]:
    return (yield from settle(party, (yield from shuffled(party, x))))


def test_a_shuffle_keeps_each_row_and_changes_its_order() -> None:
    rows = np.arange(6 * 50, dtype=np.uint32).reshape(6, 50)
    run = simulate(shuffle, shared_words(rows, BITS))
    found = run.words()
    assert np.array_equal(np.sort(found, axis=1), rows)
    assert len({tuple(row) for row in found - found.min(axis=1, keepdims=True)}) == 6
    assert run.cost == shuffled_cost(6, 50, BITS)


def test_all_orders_are_equally_frequent() -> None:
    rows = np.tile(np.arange(3, dtype=np.uint32), (6000, 1))
    found = simulate(shuffle, shared_words(rows, 8)).words()
    _, counts = np.unique(found @ np.array([16, 4, 1]), return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize(("k", "bits"), [(1, 2), (5, 6), (5, 64), (8, 20)])
def test_every_word_as_a_number_from_zero_on(k: int, bits: int) -> None:
    words = np.tile(np.arange(1 << k, dtype=np.uint64), 20)

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from unsigned(party, x, bits, 2))

    run = simulate(program, shared_words(words, k))
    assert np.array_equal(run.words(), words)
    assert run.cost.bits == unsigned_cost(len(words), k, bits).bits
    assert run.cost.rounds == unsigned_cost(len(words), k, bits).rounds


def test_bits_that_all_parties_see() -> None:
    values = np.arange(-9, 8)

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        return (yield from revealed(party, (yield from is_negative(party, see(party, x, 1)))))

    run = simulate(program, shared_words(values.astype(np.uint64), 8))
    assert all(np.array_equal(found, values < 0) for found in run.results)
    rounds = run.cost.rounds
    assert (rounds, revealed_cost(17).bits) == (3, 4 * 24)


@pytest.mark.parametrize(
    ("rows", "length", "k", "stages"),
    [
        (1, 1, 1, ()),
        (3, 2, 1, ()),
        (2, 30, 4, ()),
        (5, 40, 40, ()),
        (2, 400, 6, (Stage(64, 10, 160),)),
        (1, 2000, 3, (Stage(96, 9, 400), Stage(64, 12, 150))),
    ],
)
def test_the_largest_in_their_order(rows: int, length: int, k: int, stages: tuple[Stage, ...]) -> None:
    random = np.random.default_rng(length)
    words = np.stack([random.permutation(length) for _ in range(rows)]).astype(np.uint32)

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from leading(party, (yield from shuffle(party, x)), k, stages))

    run = simulate(program, shared_words(words, BITS))
    assert np.array_equal(run.words(), np.sort(words, axis=1)[:, ::-1][:, :k])
    assert run.cost == shuffled_cost(rows, length, BITS) + leading_cost(rows, length, BITS, stages)


@pytest.mark.parametrize(("length", "k", "sample"), [(49152, 50, 128), (49152, 1, 96), (700, 20, 64)])
def test_a_stage_rarely_misses_one_of_the_largest(length: int, k: int, sample: int) -> None:
    stage = _stage(length, k, sample)
    assert stage is not None
    # too many of the sample among the largest, or too few among those that are kept
    assert stats.hypergeom.sf(stage.rank - 1, length, k - 1, sample) <= 2.0**-22
    assert stats.hypergeom.cdf(stage.rank - 1, length, stage.kept, sample) <= 2.0**-22
    # and a rank less would miss more often
    assert stage.rank == 1 or stats.hypergeom.sf(stage.rank - 2, length, k - 1, sample) > 2.0**-22


def test_a_network_decides_how_many_samples_are_drawn() -> None:
    near, far = (schedule(1, 49152, 50, 37, Network(latency=latency)) for latency in (1e-5, 0.02))
    costs = [leading_cost(1, 49152, 37, stages) for stages in (near, far)]
    assert costs[0].bits < costs[1].bits
    assert costs[0].rounds > costs[1].rounds
    assert schedule(1, 30, 4, 37, Network()) == ()
