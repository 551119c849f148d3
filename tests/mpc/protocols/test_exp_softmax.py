"""exp on softmax's window and on the wide one, and the logarithm, against float64 over their whole ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.convert import replicate_pair, settle
from onnxpuma.mpc.protocols.exp_softmax import FRACTION, SPAN, exp_window, floor_constant, tables
from onnxpuma.mpc.protocols.exponential import HIGHEST, LOWEST, exponential, exponential_cost
from onnxpuma.mpc.protocols.logarithm import logarithm
from onnxpuma.mpc.ring.words import decode, from_integers
from onnxpuma.mpc.simulate import shared_reals, shared_words, simulate

RNG = np.random.default_rng(10)
BITS = 20
UNIT = 32.0 / 2**BITS


def window(words: np.ndarray, pivot: int = 0) -> np.ndarray:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        pair = yield from exp_window(party, see(party, x, pivot))
        return (yield from settle(party, replicate_pair(party, pair)))

    return simulate(program, shared_words(from_integers(words, BITS), BITS)).value()


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_the_window(pivot: int) -> None:
    half = 1 << (BITS - 1)
    words = np.concatenate([[0, 1, 2, half - 2, half - 1, half // 2], RNG.integers(0, half, 30_000)])
    words = np.concatenate([words, np.repeat([0, half - 1, 1023, 1024, half - 1025], 200)])
    error = window(words, pivot) - np.exp(words * UNIT - SPAN)
    assert np.abs(error).max() < 2.0**-18
    assert abs(error.mean()) < 2.0**-20


def test_the_window_for_every_share_of_a_few_values() -> None:
    half = 1 << (BITS - 1)
    for value in (0, 1, half // 3, half - 1):
        b = np.concatenate([[0, 1, half - 1, half, half + 1, 2 * half - 1], RNG.integers(0, 2 * half, 5000)])

        def program(party: Party, value: int = value, b: np.ndarray = b) -> Protocol[Any]:
            words = from_integers(value - b if party.role(1) == PIVOT else b, BITS)
            return (yield from exp_window(party, Split(party.role(1), 1, words, Format(BITS, 0))))

        assert np.abs(simulate(program).value() - np.exp(value * UNIT - SPAN)).max() < 2.0**-18


def test_what_is_clipped_to_the_lower_end_can_be_taken_away() -> None:
    assert abs(decode(floor_constant(), FRACTION) - np.exp(-16.0)) < 2.0**-36
    assert abs(window(np.zeros(1000, np.int64)) - decode(floor_constant(), FRACTION)).max() < 2.0**-18


@pytest.mark.parametrize("bits", [12, 16, 20, 23])
def test_the_tables_factor(bits: int) -> None:
    high, low = tables(bits)
    assert len(high) * len(low) == 1 << (bits - 1)
    places = np.arange(0, 1 << (bits - 1), 97)
    product = (high[places // len(low)] * low[places % len(low)]) >> np.uint64(20)
    exact = np.exp(places * 32.0 / 2**bits - 16)
    assert (np.abs(product * 2.0**-42 / exact - 1)).max() < 2.0**-18


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_the_wide_exponential(pivot: int) -> None:
    """The relative error is below 2e-5, plus two units, over the whole range and beyond it."""
    x = np.concatenate(
        [
            [LOWEST, HIGHEST, 0.0, 2.0**-18, -(2.0**-18)],
            np.arange(LOWEST, HIGHEST),
            np.arange(LOWEST + 1, HIGHEST) - 2.0**-18,
            RNG.uniform(LOWEST, HIGHEST, 20_000),
            *(s * (2.0**i + RNG.uniform(-1, 1, 10)) for i in (5, 6, 10, 20, 30, 42) for s in (1, -1)),
        ]
    )
    x = np.rint(x * 2**18) / 2**18
    run = simulate(lambda party, w: exponential(party, w, pivot), shared_reals(x))
    want = np.exp(np.clip(x, LOWEST, np.floor(HIGHEST * 2**18) / 2**18))
    error = np.abs(run.value() - want)
    assert (error - 2.0**-17 <= 2e-5 * want).all()
    assert (error / want)[want > 1].mean() < 2.0**-18
    assert run.cost == exponential_cost(len(x))


@pytest.mark.parametrize(("top", "bits"), [(0.0, 64), (7.5, 40), (13.0, 30), (25.0, 28)])
def test_the_wide_exponential_of_what_is_known_to_be_small(top: float, bits: int) -> None:
    lowest = 64 - 2.0 ** (bits - 19)
    x = np.concatenate([RNG.uniform(max(lowest, -(2.0**40)), top, 300), RNG.uniform(-21, top, 3000), [top]])
    x = np.floor(x * 2**18) / 2**18
    run = simulate(lambda party, w: exponential(party, w, 1, top, bits), shared_reals(x))
    assert (np.abs(run.value() - np.exp(x)) - 2.0**-17 <= 2e-5 * np.exp(x)).all()
    assert run.cost == exponential_cost(len(x), top, bits)


@pytest.mark.parametrize("fraction", [18, 12, 20])
def test_the_logarithm(fraction: int) -> None:
    """Every magnitude of the format, from one unit up; as exact as its argument."""
    units = np.concatenate([np.arange(1, 40), 2.0 ** np.arange(0, 58), np.exp(RNG.uniform(0, 40, 3000))])
    x = np.maximum(1, np.rint(units)) * 2.0**-fraction
    run = simulate(lambda party, w: logarithm(party, w, 1), shared_reals(x, fraction))
    error = np.abs(run.value() - np.log(x))
    assert error[x * 2.0**fraction >= 2**20].max() < 2.0**-19
    assert error.max() < 2.0**-16


def test_the_logarithm_is_unbiased() -> None:
    x = np.exp(RNG.uniform(0, 10, 2000))
    x = np.rint(x * 2**18) / 2**18
    error = simulate(lambda party, w: logarithm(party, w, 0), shared_reals(x)).value() - np.log(x)
    assert abs(error.mean()) < 6 * error.std() / len(error) ** 0.5 + 2.0**-23
