"""From one form to another: the value survives, for every pivot and every width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.protocols import convert
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import from_integers, reduced, signed, word_type
from onnxpuma.mpc.simulate import Run, shared_reals, shared_words, simulate

X = np.random.default_rng(6).normal(0, 40, (5, 7))
PIVOTS = pytest.mark.parametrize("pivot", [0, 1, 2])
WIDTHS = pytest.mark.parametrize("bits", [1, 5, 8, 13, 28, 33, 64])


def as_pair(party: Party, x: Replicated, pivot: int) -> Pair:
    role = party.role(pivot)
    words = [nothing(x.shape, x.bits), x.first, x.total][role]
    return Pair(role, pivot, words, x.format)


def converted(function: Any, *shared: Any) -> Run:
    def program(party: Party, *held: Any) -> Protocol[Any]:
        result = function(party, *held)
        yield
        return result

    return simulate(program, *shared)


@PIVOTS
@WIDTHS
def test_pairs(pivot: int, bits: int) -> None:
    words = np.random.default_rng(bits).integers(0, 1 << 64, (3, 5), np.uint64).astype(word_type(bits))
    shared = shared_words(words, bits, 4)
    run = converted(lambda party, x: convert.replicate_pair(party, as_pair(party, x, pivot)), shared)
    assert np.array_equal(run.words(), reduced(words, bits))
    for i, held in enumerate(run.results):
        assert np.array_equal(reduced(held.second, bits), reduced(run.results[(i + 1) % 3].first, bits))
    run = converted(lambda party, x: convert.pass_on(party, as_pair(party, x, pivot)), shared)
    assert {(r.pivot, r.fraction, r.bits) for r in run.results} == {((pivot + 1) % 3, 4, bits)}
    assert np.array_equal(run.words(), reduced(words, bits))
    twins = [reduced(r.words, bits) for r in run.results if r.role != PIVOT]
    assert np.array_equal(*twins)


@WIDTHS
def test_a_sum(bits: int) -> None:
    words = np.random.default_rng(bits).integers(0, 1 << 64, 9, np.uint64).astype(word_type(bits))
    run = converted(
        lambda party, x: convert.replicate_sum(party, multiply(party, x, x)), shared_words(words, bits)
    )
    assert np.array_equal(run.words(), reduced(words * words, bits))


@PIVOTS
def test_reading_at_another_scale(pivot: int) -> None:
    """From any form: within 1.5 units of the new scale; exact to a finer one."""
    readings: list[tuple[Any, Any]] = [
        (lambda party, x: x, X / 4),
        (lambda party, x: see(party, x, pivot), X / 4),
        (lambda party, x: multiply(party, x, x), (X / 4) ** 2),
    ]
    for fraction, bits in ((18, 46), (14, 28), (6, 20), (0, 16)):
        for form, expected in readings:
            made = Format(bits, fraction)
            run = converted(
                lambda party, x, f=form, at=made: convert.split(party, f(party, x), pivot, at),
                shared_reals(X / 4),
            )
            assert (run.results[0].bits, run.results[0].fraction) == (bits, fraction)
            assert np.abs(run.value() - expected).max() <= 1.5 * 2.0**-fraction + 1e-3


@pytest.mark.parametrize("product", [True, False])
def test_reading_at_a_finer_scale_is_exact(product: bool) -> None:
    values = np.array([-9, 0, 3, 1 << 20])
    run = converted(
        lambda party, x: convert.split(party, multiply(party, x, x) if product else x, 1, Format(60, 12)),
        shared_words(from_integers(values, 64), 64, 4 if product else 8),
    )
    assert np.array_equal(signed(run.words(), 60), 16 * (values**2 if product else values))


@PIVOTS
@WIDTHS
def test_dealing(pivot: int, bits: int) -> None:
    words = np.random.default_rng(bits).integers(0, 1 << 64, (4, 3), np.uint64)

    def program(party: Party) -> Protocol[Any]:
        role = party.role(pivot)
        half = convert.deal(party, pivot, words if role == PIVOT else None, words.shape, bits)
        yield
        return Pair(role, pivot, taken(half), Format(bits, 0))

    run = simulate(program)
    assert np.array_equal(run.words(), reduced(words, bits))
    assert run.sent[(pivot + 1) % 3] == run.sent[(pivot + 2) % 3] == 0


def test_halves_are_dealt_to_a_value_that_has_none() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        seen = convert.split(party, multiply(party, x, x), 1, Format(40, 20))
        assert seen.half is None
        seen = convert.deal_halves(party, seen)
        yield
        return seen

    run = simulate(program, shared_reals(X))
    assert run.cost == convert.split_cost(X.size, 40) | convert.deal_cost(X.size, 40)
    pivot, u, v = (next(r for r in run.results if r.role == role) for role in (PIVOT, U, 2))
    assert np.array_equal(reduced(u.half + v.half, 40), reduced(pivot.words, 40))
    assert np.abs(run.value() - X * X).max() < 1e-2


def test_one_product_may_be_read_twice() -> None:
    """By different pivots and at different widths: each reading has its own masks."""

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        product = multiply(party, x, x)
        readings = [convert.split(party, product, pivot, Format(40, 20)) for pivot in range(3)]
        whole = convert.replicate_sum(party, product.map(lambda w: np.concatenate([w, w])))
        yield
        return readings, whole

    results = simulate(program, shared_reals(X)).results
    for pivot in range(3):
        parts: dict[int, Split] = {r[0][pivot].role: r[0][pivot] for r in results}
        words = reduced(parts[PIVOT].words + parts[U].words, 40)
        assert np.abs(signed(words, 40) * 2.0**-20 - X * X).max() < 1e-2
    total = sum(r[1].first for r in results)
    assert np.abs(signed(total, 64) * 2.0**-36 - np.concatenate([X * X, X * X])).max() < 1e-2


def test_splits_whose_first_exchange_is_still_open_can_be_used() -> None:
    """Layouts, shifts and differences work on words in transit."""

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        seen = convert.split(party, multiply(party, x, x), 0, Format(44, 20)).map(np.transpose)
        other = seen.lowered(4, 30)
        result = (other - other.map(lambda w: w[:1])).plus(from_integers(1 << 16, 30))
        assert result.shape == X.T.shape
        yield
        return result

    small = X / 4
    expected = (small * small).T - (small * small).T[:1] + 1
    assert np.abs(simulate(program, shared_reals(small)).value() - expected).max() < 1e-2
