"""The local operations of each form: layouts, sums, public factors, shifts; and mismatched forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Form, Pair, Replicated, Split, Sum3, see
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.convert import split
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import encode, from_integers, signed
from onnxpuma.mpc.simulate import Run, shared_reals, shared_words, simulate

X = np.random.default_rng(1).normal(0, 40, (3, 4))
Y = np.random.default_rng(2).normal(0, 40, (3, 4))
Local = Callable[..., Any]


def locally(function: Local, *values: Any) -> Run:
    def program(party: Party, *held: Any) -> Protocol[Any]:
        yield from ()
        return function(party, *held)

    run = simulate(program, *values)
    assert (run.cost.rounds, run.cost.bits) == (0, 0)
    return run


def as_sum(party: Party, x: Replicated) -> Sum3:
    return Sum3(party.index, x.first, x.format)


def as_split(party: Party, x: Replicated) -> Split:
    return see(party, x, 1)


def as_pair(party: Party, x: Replicated) -> Pair:
    """Halves of x at P_2 and P_0."""
    words = [nothing(x.shape, x.bits), x.first, x.total][party.role(1)]
    return Pair(party.role(1), 1, words, x.format)


FORMS = pytest.mark.parametrize("form", [lambda party, x: x, as_sum, as_split, as_pair])


@FORMS
def test_layouts(form: Local) -> None:
    for layout in (
        np.transpose,
        lambda w: w[1:, ::2],
        lambda w: np.concatenate([w, w]),
        lambda w: w.reshape(-1),
    ):
        run = locally(lambda party, x, f=layout: form(party, x).map(f), shared_reals(X))
        assert run.results[0].shape == layout(X).shape
        assert np.abs(run.value() - layout(X)).max() < 2.0**-18


@FORMS
def test_adding_something_public(form: Local) -> None:
    for public in (Y, Y[0], Y[0, 0]):
        run = locally(lambda party, x, y=public: form(party, x).plus(encode(y, 18)), shared_reals(X))
        assert all(r.shape == X.shape for r in run.results)
        assert np.abs(run.value() - X - public).max() < 2.0**-17


@pytest.mark.parametrize("form", [lambda party, x: x, as_sum, as_pair])
def test_a_public_addend_may_be_larger(form: Local) -> None:
    run = locally(lambda party, x: form(party, x).plus(encode(Y, 18)), shared_reals(X[0]))
    assert all(r.shape == X.shape for r in run.results)
    assert np.abs(run.value() - X[0] - Y).max() < 2.0**-17


@pytest.mark.parametrize("form", [lambda party, x: x, as_sum, as_pair])
def test_a_public_factor(form: Local) -> None:
    run = locally(lambda party, x: form(party, x).times(encode(Y, 10), 10), shared_reals(X))
    assert run.results[0].fraction == 28
    assert np.abs(run.value() - X * Y).max() < 0.1


@pytest.mark.parametrize("form", [lambda party, x: x, as_sum, as_pair])
def test_sums_of_one_form(form: Local) -> None:
    run = locally(lambda party, x, y: form(party, x) + form(party, y), shared_reals(X), shared_reals(Y))
    assert np.abs(run.value() - X - Y).max() < 2.0**-17


@pytest.mark.parametrize("form", [lambda party, x: x, as_sum])
def test_differences_and_negatives(form: Local) -> None:
    run = locally(lambda party, x, y: -(form(party, x) - form(party, y)), shared_reals(X), shared_reals(Y))
    assert np.abs(run.value() - (Y - X)).max() < 2.0**-17


def test_a_product_and_a_shared_value() -> None:
    for sign in (1, -1):
        run = locally(
            lambda party, x, y, s=sign: multiply(party, x, y).plus_shared(y, s),
            shared_reals(X),
            shared_reals(Y),
        )
        assert run.results[0].fraction == 36
        assert np.abs(run.value() - (X * Y + sign * Y)).max() < 1e-3


def test_sums_and_factors_of_splits() -> None:
    run = locally(
        lambda party, x, y: (as_split(party, x) + as_split(party, y)).times(np.uint64(5)).with_fraction(19),
        shared_reals(X),
        shared_reals(Y),
    )
    assert np.abs(run.value() - 2.5 * (X + Y)).max() < 2.0**-15
    assert all(r.half is not None for r in run.results)


def test_differences_of_splits_and_a_pair_and_a_split() -> None:
    run = locally(
        lambda party, x, y: as_split(party, x) - as_split(party, y), shared_reals(X), shared_reals(Y)
    )
    assert np.abs(run.value() - (X - Y)).max() < 2.0**-17
    run = locally(
        lambda party, x, y: as_pair(party, x).plus_split(as_split(party, y).map(lambda w: w + w)),
        shared_reals(X),
        shared_reals(Y),
    )
    assert np.abs(run.value() - X - 2 * Y).max() < 2.0**-16


@FORMS
def test_modulo_keeps_the_low_bits(form: Local) -> None:
    values = np.array([-5, -1, 0, 1, 1000, 2047])
    run = locally(lambda party, x: form(party, x).modulo(12), shared_words(from_integers(values, 64), 64))
    assert run.results[0].bits == 12
    assert np.array_equal(signed(run.words(), 12), values)


@pytest.mark.parametrize("raised", [lambda p, x: x.raised(5), lambda p, x: as_split(p, x).raised(5, 25)])
def test_raising_is_exact(raised: Local) -> None:
    values = np.array([-(2**19), -3, 0, 1, 2**19 - 1])
    run = locally(raised, shared_words(from_integers(values, 20), 20))
    assert (run.results[0].bits, run.results[0].fraction) == (25, 5)
    assert np.array_equal(signed(run.words(), 25), 32 * values)


@pytest.mark.parametrize("shift", [1, 2, 5, 18])
@pytest.mark.parametrize(
    ("form", "bound"), [(as_split, 1.0), (as_pair, 1.0), (lambda p, x: x, 1.5), (as_sum, 1.5)]
)
def test_lowering_rounds_without_bias(form: Local, bound: float, shift: int) -> None:
    """Error within the bound; mean within four standard errors of zero, and 2^-shift for three terms."""
    values = np.random.default_rng(3).integers(-(2**40), 2**40, 60_000)
    run = locally(
        lambda party, x: form(party, x).lowered(shift), shared_words(from_integers(values, 64), 64, 18)
    )
    assert (run.results[0].bits, run.results[0].fraction) == (64 - shift, 18 - shift)
    error = signed(run.words(), 64 - shift) - values / 2.0**shift
    assert np.abs(error).max() <= bound
    slack = 2.0**-shift if bound > 1 else 0.0
    assert abs(error.mean()) < slack + 6 * error.std() / len(error) ** 0.5


@pytest.mark.parametrize("form", [as_split, as_pair])
def test_lowering_is_exact_on_multiples_and_random_with_the_right_mean_elsewhere(form: Local) -> None:
    for value, expected in ((48, 3.0), (-48, -3.0), (49, 3 + 1 / 16), (-41, -3 + 7 / 16), (63, 4 - 1 / 16)):
        words = from_integers(np.full(40_000, value), 32)
        run = locally(lambda party, x: form(party, x).lowered(4), shared_words(words, 32))
        found = signed(run.words(), 28)
        assert set(found) <= {np.floor(expected), np.ceil(expected)}
        assert abs(found.mean() - expected) < 5 * 0.5 / 200


def test_lowering_by_nothing() -> None:
    for form in (lambda p, x: x, as_sum, as_split, as_pair):
        run = locally(lambda party, x, f=form: f(party, x).lowered(0), shared_reals(X))
        assert np.abs(run.value() - X).max() < 2.0**-18


def test_halves_follow_what_is_linear_and_only_that() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        yield from ()
        seen = see(party, x, 1)
        kept = [seen.map(np.transpose), seen.modulo(20), seen - seen, seen.plus(np.uint64(1))]
        lost = [seen.lowered(3), seen.raised(1, 20)]
        bare = Split(seen.role, 1, seen.words, Format(64, 18))
        lost += [bare.map(np.transpose), bare - seen, seen - bare]
        return [k.half is not None for k in kept], [k.half is not None for k in lost], seen.map(np.transpose)

    results = simulate(program, shared_reals(X)).results
    assert all(all(kept) and not any(lost) for kept, lost, _ in results)
    halves = [r[2].half for r in results]
    pivot_words = results[1][2].words
    assert np.array_equal(halves[2] + halves[0], pivot_words)  # u = P_2, v = P_0


def test_weights_are_replicated_values() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        yield from ()
        weights = Weights.of(x)
        seen = [see(party, weights, pivot) for pivot in range(3)]
        return weights.map(np.transpose), seen

    run = simulate(program, shared_reals(X))
    for pivot in range(3):
        parts = {r[1][pivot].role: r[1][pivot].words for r in run.results}
        assert np.array_equal(parts[0] + parts[1], encode(X, 18))
        assert np.array_equal(parts[1], parts[2])
    transposed = [r[0] for r in run.results]
    assert np.array_equal(sum(t.first for t in transposed), encode(X.T, 18))
    assert np.array_equal(sum(t.second for t in transposed), encode(X.T, 18))


def test_forms_that_do_not_go_together() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        yield from ()
        other, narrow, product = x.with_fraction(17), x.modulo(32), multiply(party, x, x)
        wrong: list[Callable[[], Any]] = [
            lambda: x + other,
            lambda: x - narrow,
            lambda: product + as_sum(party, x),
            lambda: as_sum(party, x).plus_shared(x.with_fraction(19)),
            lambda: product.plus_shared(narrow),
            lambda: multiply(party, x, narrow),
            lambda: see(party, x, 0) - see(party, x, 1),
            lambda: see(party, x, 0) - see(party, other, 0),
            lambda: see(party, x, 0) + see(party, narrow, 0),
            lambda: as_pair(party, x) + as_pair(party, other),
            lambda: as_pair(party, x).plus_split(see(party, x, 0)),
            lambda: as_pair(party, x).plus_split(Split(party.role(1), 1, x.first, Format(64, 18))),
            lambda: see(party, x, 0).plus(encode(np.zeros((2, 3, 4)), 18)),
            lambda: split(party, x, 0, Format(65, 18)),
            lambda: split(party, x, 0, Format(60, 10)),
            lambda: Bit(0, 0, nothing((1,), 8), (3,)) ^ Bit(0, 1, nothing((1,), 8), (3,)),
        ]
        for operation in wrong:
            with pytest.raises(ProtocolError):
                operation()

    simulate(program, shared_reals(X))


def test_a_form_shows_its_shape_and_never_its_words() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        yield from ()
        forms: list[Form] = [x, as_sum(party, x), as_split(party, x), as_pair(party, x)]
        return [repr(f) for f in forms], [f.size for f in forms]

    for texts, sizes in simulate(program, shared_words(np.full((2, 3), 7777, np.uint64), 64, 18)).results:
        assert sizes == [6, 6, 6, 6]
        for text, name in zip(texts, ("Replicated", "Sum3", "Split", "Pair"), strict=True):
            assert text == f"{name}(shape=(2, 3), bits=64, fraction=18)"
    assert repr(Bit(PIVOT, 0, nothing((1,), 8), (5,))) == "Bit(shape=(5,), pivot=0)"
