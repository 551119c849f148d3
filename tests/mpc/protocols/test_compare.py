"""Comparisons: exact for every value of the ring and every share of it, at any width and digit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.boolean import Circuit, Table, evaluate, xor
from onnxpuma.mpc.protocols.compare import is_negative, locate, signs, signs_cost, signs_of, wide_negative
from onnxpuma.mpc.protocols.wide import wide_zero, zero_circuits
from onnxpuma.mpc.ring.words import Words, from_integers
from onnxpuma.mpc.simulate import Run, shared_words, simulate

RNG = np.random.default_rng(8)


def every_value(bits: int) -> np.ndarray:
    return np.arange(-(1 << (bits - 1)), 1 << (bits - 1))


def run_on(values: np.ndarray, bits: int, protocol: Callable[..., Any], pivot: int = 0) -> Run:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        return (yield from protocol(party, see(party, x, pivot)))

    return simulate(program, shared_words(from_integers(values, bits), bits))


def bits_of(run: Run, which: int) -> np.ndarray:
    return np.asarray(Run([r[which] for r in run.results], run.cost, run.sent).words())


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8, 12, 13, 16])
def test_the_sign_of_every_value(bits: int, pivot: int) -> None:
    values = every_value(bits)
    run = run_on(values, bits, is_negative, pivot)
    assert np.array_equal(run.words(), values < 0)


@pytest.mark.parametrize("bits", [20, 24, 28])
def test_the_sign_of_wide_words(bits: int) -> None:
    half = 1 << (bits - 1)
    values = np.concatenate([[0, 1, -1, half - 1, -half, 1 - half], RNG.integers(-half, half, 5000)])
    assert np.array_equal(run_on(values, bits, is_negative).words(), values < 0)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("width", [1, 9, 15, 16])
@pytest.mark.parametrize("bits", [6, 12, 14])
def test_the_window_of_every_value(bits: int, width: int, deep: bool) -> None:
    values = every_value(bits)
    values = values[values >= width - (1 << (bits - 1))]
    run = run_on(values, bits, lambda party, x: locate(party, x, width, deep), 2)
    assert np.array_equal(bits_of(run, 0), (values >= 0) & (values < width))
    assert np.array_equal(bits_of(run, 1), values >= width)


@pytest.mark.parametrize("deep", [False, True])
def test_several_signs_of_every_value_and_every_share(deep: bool) -> None:
    bits, thresholds = 6, (0, 1, -3, 9)
    values, b = (w.reshape(-1) for w in np.meshgrid(every_value(bits), np.arange(1 << bits)))

    def program(party: Party) -> Protocol[Any]:
        words = from_integers(values - b if party.role(1) == PIVOT else b, bits)
        return (yield from signs(party, Split(party.role(1), 1, words, Format(bits, 0)), thresholds, deep))

    run = simulate(program)
    assert run.cost == signs_cost(values.size, bits, len(thresholds), deep)
    for number, threshold in enumerate(thresholds):
        top = (values - threshold) & (1 << (bits - 1)) > 0
        assert np.array_equal(bits_of(run, number), top)


def test_a_sign_too_wide_for_two_rounds() -> None:
    with pytest.raises(ValueError, match="the sign of 60 bits"):
        signs_of(60)


@pytest.mark.parametrize("bits", [8, 16, 24, 36, 64])
def test_wide_comparisons(bits: int) -> None:
    half = 1 << (bits - 1)
    powers = [s * (1 << i) + d for i in range(bits - 1) for s in (1, -1) for d in (-1, 0, 1)]
    values = np.array([*powers, 0, half - 1, -half, 1 - half, *RNG.integers(-half, half, 3000)], object)
    values = np.array([v for v in values if -half <= v < half], np.int64)
    assert np.array_equal(run_on(values, bits, wide_negative, 1).words(), values < 0)
    assert np.array_equal(run_on(values, bits, wide_zero, 1).words(), values == 0)


def test_a_circuit_of_a_value_of_another_width() -> None:
    with pytest.raises(ProtocolError, match="a circuit of 12 bits"):
        run_on(every_value(5), 5, lambda party, x: evaluate(party, x, zero_circuits(12)[0]))


def test_shapes_and_negation() -> None:
    values = every_value(5).reshape(2, 16)[:, :15]

    def program(party: Party, x: Replicated) -> Protocol[tuple[Bit, Bit]]:
        q = yield from is_negative(party, see(party, x, 1))
        return q, ~q ^ q ^ q

    run = simulate(program, shared_words(from_integers(values, 5), 5))
    assert np.array_equal(bits_of(run, 0), values < 0)
    assert np.array_equal(bits_of(run, 1), values >= 0)


def table(truth: Callable[[Any, Any], Any], shift: int) -> Table:
    return Table(f"digit{shift}", shift, 2, truth)


def test_any_polynomial_of_digit_bits_takes_two_rounds() -> None:
    """Constants, single bits, products of up to four bits, and a term that cancels out."""
    tables = tuple(table(lambda a, b, n=n: (a * 3 + b * n + n) % 5 < 2, 2 * n) for n in range(4))
    polynomials = (
        xor(()),
        xor((0,)),
        xor((0, 1)),
        xor((), (2,), (0, 1), (1, 2, 3), (0, 1, 2, 3)),
        xor((3,), (0, 2), (0, 2)),
    )
    circuit = Circuit(8, tables, polynomials)
    a, b = (RNG.integers(0, 256, 2000).astype(np.uint8) for _ in range(2))

    def program(party: Party) -> Protocol[list[Bit]]:
        x = Split(party.role(2), 2, a if party.role(2) == PIVOT else b, Format(8, 0))
        return (yield from evaluate(party, x, circuit))

    run = simulate(program)
    assert (run.cost.rounds, run.cost) == (2, circuit.cost(2000))
    digits: list[Words] = [t.truth((a >> t.shift) & 3, (b >> t.shift) & 3).astype(np.uint8) for t in tables]
    for number, polynomial in enumerate(polynomials):
        expected = np.zeros(2000, np.uint8)
        for term in polynomial:
            expected ^= np.prod([digits[i] for i in term], axis=0, dtype=np.uint8) if term else np.uint8(1)
        assert np.array_equal(bits_of(run, number), expected)


def test_a_circuit_without_products_takes_one_round() -> None:
    circuit = Circuit(
        4, (table(lambda a, b: a > b, 0), table(lambda a, b: a == b, 2)), (xor((0,), (1,)), xor(()))
    )
    run = run_on(every_value(4), 4, lambda party, x: evaluate(party, x, circuit))
    assert (run.cost.rounds, circuit.opened, circuit.products) == (1, (), ())
    assert bits_of(run, 1).all()
