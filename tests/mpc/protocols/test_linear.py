"""Products of two replicated values: exact in the ring, without messages."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import (
    bilinear,
    doubled_matmul,
    matmul,
    multiply,
    sum_of_squares,
    zero_share,
)
from onnxpuma.mpc.ring.words import Words, reduced, word_type
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(5)


def random_words(shape: tuple[int, ...], bits: int) -> Words:
    return RNG.integers(0, 1 << 64, shape, np.uint64).astype(word_type(bits))


def product_of(x: Words, y: Words, bits: int, function: object = multiply) -> Words:
    def program(party: Party, a: Replicated, b: Replicated) -> Protocol[Sum3]:
        yield from ()
        product: Sum3 = function(party, a, b)  # type: ignore[operator]
        assert product.fraction == 3 + 4
        return product

    run = simulate(program, shared_words(x, bits, 3), shared_words(y, bits, 4))
    assert run.cost.bits == 0
    words: Words = run.words()
    return words


@pytest.mark.parametrize("bits", [8, 20, 32, 64])
def test_products_with_broadcasting(bits: int) -> None:
    for shapes in (((5,), (5,)), ((3, 1), (4,)), ((2, 3), ()), ((0, 2), (1, 2)), ((), ())):
        x, y = (random_words(s, bits) for s in shapes)
        with np.errstate(over="ignore"):
            expected = reduced(np.asarray(x * y), bits)
        assert np.array_equal(product_of(x, y, bits), expected)


@pytest.mark.parametrize("bits", [32, 64])
def test_matrix_products(bits: int) -> None:
    for shapes in (
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (4, 2)),
        ((3, 4), (4,)),
    ):
        x, y = (random_words(s, bits) for s in shapes)
        assert np.array_equal(product_of(x, y, bits, matmul), np.matmul(x, y))


@pytest.mark.parametrize("bits", [20, 40, 64])
@pytest.mark.parametrize("weights", ["", "left", "right"])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (4, 1)), ((6, 4), (4, 2))])
def test_products_and_doubled_ones(
    bits: int, weights: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    x, y = (random_words(s, bits) for s in shapes)

    def program(party: Party, a: Replicated, b: Replicated) -> Protocol[tuple[Sum3, Sum3]]:
        yield from ()
        a, b = (Weights.of(v) if weights == side else v for v, side in ((a, "left"), (b, "right")))
        return matmul(party, a, b), doubled_matmul(party, a, b)

    run = simulate(program, shared_words(x, bits, 3), shared_words(y, bits, 4))
    assert run.cost.bits == 0
    once, doubled = (sum(r[which].words for r in run.results) for which in (0, 1))
    assert {(r[0].fraction, r[1].fraction) for r in run.results} == {(7, 8)}
    assert np.array_equal(reduced(once, bits), reduced(np.matmul(x, y), bits))
    assert np.array_equal(reduced(doubled, bits), reduced(2 * np.matmul(x, y), bits))


def test_a_bilinear_map() -> None:
    x, y = random_words((3, 4, 5), 64), random_words((5, 2), 64)

    def outer(a: Words, b: Words) -> Words:
        return np.einsum("ijk,kl->lji", a, b)

    found = product_of(x, y, 64, lambda party, a, b: bilinear(party, a, b, outer))
    assert np.array_equal(found, outer(x, y))


@pytest.mark.parametrize("bits", [12, 64])
def test_squares(bits: int) -> None:
    x = random_words((4, 3, 2), bits)

    def program(party: Party, a: Replicated) -> Protocol[tuple[Sum3, Sum3]]:
        yield from ()
        return multiply(party, a, a), sum_of_squares(party, a, (1, 2))

    results = simulate(program, shared_words(x, bits)).results
    for which, expected in ((0, x * x), (1, (x * x).sum(axis=(1, 2), keepdims=True, dtype=x.dtype))):
        total = sum(r[which].words for r in results)
        assert np.array_equal(reduced(total, bits), reduced(expected, bits))


def test_operands_of_different_rings() -> None:
    def program(party: Party, a: Replicated, b: Replicated) -> Protocol[None]:
        yield from ()
        multiply(party, a, b)

    with pytest.raises(ProtocolError, match="bring both to one ring"):
        simulate(program, shared_words(random_words((2,), 64), 64), shared_words(random_words((2,), 32), 32))


def test_zero_shares_add_up_to_nothing() -> None:
    def program(party: Party) -> Protocol[list[Words]]:
        yield from ()
        return [zero_share(party, (50,), bits) for bits in (8, 64, 64)]

    results = simulate(program).results
    for place in range(3):
        words = [r[place] for r in results]
        assert not sum(words).any()
        assert all(len(np.unique(w)) > 30 for w in words)
    assert not np.array_equal(results[0][1], results[0][2])
