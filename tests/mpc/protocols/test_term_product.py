"""A product of terms: exact over the whole range, and replicated in a larger ring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.term_product import multiply_terms, product_of_terms
from onnxpuma.mpc.ring.words import from_integers, reduced, signed
from onnxpuma.mpc.simulate import shared_reals, shared_words, simulate

RNG = np.random.default_rng(29)


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize(("k", "bits", "least"), [(4, 9, None), (21, 40, -99), (20, 64, 0), (40, 41, None)])
def test_exact_over_the_whole_range(k: int, bits: int, least: int | None, pivot: int) -> None:
    low = -(1 << (k - 2)) if least is None else least
    ends = np.array([0, 1, (1 << (k - 1)) - 1, 1 << (k - 2)]) + low
    x = np.concatenate([np.tile(ends, 75), RNG.integers(low, low + (1 << (k - 1)), 2700)]).reshape(4, -1)
    y = RNG.integers(-(1 << 62), 1 << 62, x.shape)

    def program(party: Party, x: Replicated, one: Replicated, y: Replicated) -> Protocol[Pair]:
        return (yield from multiply_terms(party, multiply(party, x, one), y, pivot, least))

    def shared(values: np.ndarray, width: int, fraction: int = 0) -> Any:
        return shared_words(reduced(from_integers(values, width), width), width, fraction)

    run = simulate(program, shared(x, k, 3), shared(np.ones_like(x), k), shared(y, bits, 4))
    assert (run.results[0].format, run.results[0].shape) == (Format(bits, 7), x.shape)
    expected = reduced(from_integers(x, bits) * from_integers(y, bits), bits)
    assert np.array_equal(reduced(run.words(), bits), expected)
    assert run.cost.rounds == 1


def test_all_terms_and_all_shares_of_a_small_ring() -> None:
    """Five bits: every value in range with all terms of two parties, times a value in some shares."""
    value, first, second, part = (
        w.reshape(-1) for w in np.meshgrid(np.arange(-8, 8), np.arange(32), np.arange(32), np.arange(8))
    )
    terms = [reduced(from_integers(w, 5), 5) for w in (first, second, value - first - second)]
    y = [reduced(from_integers(w, 9), 9) for w in (part * 61, 7 - part * 61, np.full(part.shape, -3))]

    def program(party: Party) -> Protocol[Pair]:
        i = party.index
        other = Replicated(i, y[i], y[(i + 1) % 3], Format(9, 0))
        return (yield from multiply_terms(party, Sum3(i, terms[i], Format(5, 0)), other, 0))

    assert np.array_equal(signed(simulate(program).words(), 9), value * 4)


@pytest.mark.parametrize(("bits", "made", "rounds"), [(40, 48, 3), (60, 48, 2), (40, 64, 3), (48, 30, 2)])
def test_replicated_in_the_ring_of_the_result(bits: int, made: int, rounds: int) -> None:
    x, y = RNG.uniform(-15.9, 15.9, 4000), RNG.uniform(-15, 15, 4000)

    def program(party: Party, x: Replicated, one: Replicated, y: Replicated) -> Protocol[Replicated]:
        terms = multiply(party, x.modulo(21), one.modulo(21))
        return (yield from product_of_terms(party, terms, y, 1, bits, Format(made, 18)))

    given = shared_reals(x, 15), shared_words(np.ones(4000, np.uint64), 64, 0), shared_reals(y, 15)
    run = simulate(program, *given)
    exact = np.round(x * 2**15) * np.round(y * 2**15) / 2**30
    assert run.results[0].format == Format(made, 18)
    assert run.cost.rounds == rounds
    assert np.abs(run.value() - exact).max() < 1.01 * 2.0**-18
    assert abs((run.value() - exact).mean()) < 4 * 2.0**-18 * 4000**-0.5


def test_what_does_not_go_together() -> None:
    def program(party: Party, x: Replicated, y: Replicated) -> Protocol[Any]:
        for other in (y.modulo(20), y[:2]):
            with pytest.raises(ProtocolError, match="a larger ring"):
                next(multiply_terms(party, x.as_sum(), other, 0))
        yield from ()

    simulate(program, *(shared_words(from_integers(np.arange(4), b), b) for b in (20, 40)))
