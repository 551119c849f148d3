"""Layouts and sums of several values: every form does what numpy does with the value that it shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import RESTING, WHOLE, Format
from onnxpuma.mpc.forms import (
    Form,
    Pair,
    Replicated,
    Split,
    Sum3,
    chosen,
    joined,
    picked,
    see,
    stacked,
    trivial,
    zeros,
)
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Party, Protocol, nothing
from onnxpuma.mpc.protocols.convert import replicate_sum
from onnxpuma.mpc.ring.words import reduced
from onnxpuma.mpc.simulate import Run, shared_reals, simulate

X = np.random.default_rng(3).integers(-40, 40, (3, 4)).astype(float)
Y = np.random.default_rng(4).integers(-40, 40, (3, 4)).astype(float)
Made = Callable[..., Any]


def as_sum(party: Party, x: Replicated) -> Sum3:
    return x.as_sum()


def as_split(party: Party, x: Replicated) -> Split:
    return see(party, x, 1)


def as_pair(party: Party, x: Replicated) -> Pair:
    words = [nothing(x.shape, x.bits), x.first, x.total][party.role(1)]
    return Pair(party.role(1), 1, words, x.format)


def as_weights(party: Party, x: Replicated) -> Weights:
    return Weights.of(x)


FORMS = pytest.mark.parametrize("form", [lambda party, x: x, as_sum, as_split, as_pair, as_weights])


def locally(function: Made, *values: Any) -> Run:
    def program(party: Party, *held: Any) -> Protocol[Any]:
        yield from ()
        return function(party, *held)

    run = simulate(program, *values)
    assert (run.cost.rounds, run.cost.bits) == (0, 0)
    for result, following in zip(run.results, (*run.results[1:], run.results[0]), strict=True):
        if isinstance(result, Replicated) and result.size < 1 << 20:  # two parties have each word
            assert np.array_equal(reduced(result.second, result.bits), reduced(following.first, result.bits))
    return run


ONE: dict[str, tuple[Made, np.ndarray]] = {
    "index": (lambda x: x[1:, ::2], X[1:, ::2]),
    "reshape": (lambda x: x.reshape(2, 6), X.reshape(2, 6)),
    "contiguous": (lambda x: x.transpose().contiguous(), X.T),
    "rows": (lambda x: x.transpose().contiguous(-1, 6), X.T.reshape(-1, 6)),
    "flat": (lambda x: x.transpose().flat(), X.T.reshape(-1)),
    "owned": (lambda x: x[:, 1].owned(), X[:, 1]),
    "moveaxis": (lambda x: x.reshape(3, 2, 2).moveaxis(0, -1), np.moveaxis(X.reshape(3, 2, 2), 0, -1)),
    "broadcast": (lambda x: x.broadcast_to((2, 3, 4)), np.broadcast_to(X, (2, 3, 4))),
    "repeat": (lambda x: x.repeat(2, 1), np.repeat(X, 2, 1)),
    "pad": (lambda x: x.pad([(1, 0), (0, 2)]), np.pad(X, [(1, 0), (0, 2)])),
    "sum": (lambda x: x.sum(1), X.sum(1)),
    "sum kept": (lambda x: x.sum((0, 1), keepdims=True), X.sum((0, 1), keepdims=True)),
    "cumsum": (lambda x: x.cumsum(1), np.cumsum(X, 1)),
    "run sums": (lambda x: x.flat().run_sums(np.array([0, 5])), np.add.reduceat(X.reshape(-1), [0, 5])),
    "windows": (
        lambda x: x.windows((2,), (1,)),
        np.lib.stride_tricks.sliding_window_view(X, (2,), axis=(1,)),
    ),
    "take": (lambda x: x.take(np.array([2, 0]), 0), np.take(X, [2, 0], 0)),
    "take along": (
        lambda x: x.take_along(np.array([[1], [0], [3]]), 1),
        np.take_along_axis(X, np.array([[1], [0], [3]]), 1),
    ),
    "zeroed": (lambda x: x.zeroed(X > 0), np.where(X > 0, 0, X)),
    "within": (lambda x: x[0].within((slice(1, 5),), (6,)), np.pad(X[0], (1, 1))),
    "spaced": (
        lambda x: x[:, 0].spaced(np.array([1, 2, 5]), (2, 3)),
        np.array([[0, *X[:2, 0]], [0, 0, X[2, 0]]]),
    ),
    "spaced everywhere": (lambda x: x.flat().spaced(None, (4, 3)), X.reshape(4, 3)),
    "negative": (lambda x: -x, -X),
    "numbers": (lambda x: x.plus_numbers(Y), X + Y),
    "integers": (lambda x: x.times_integers(Y.astype(int), 2), X * Y / 4),
    "aligned": (lambda x: x.aligned(x.fraction + 3), X),
    "matmul": (lambda x: x.matmul(Y.T.astype(int), 1), X @ Y.T / 2),
    "matmul from the left": (lambda x: x.rmatmul(Y.T.astype(int)), Y.T @ X),
}


@FORMS
@pytest.mark.parametrize("name", ONE)
def test_one_value(form: Made, name: str) -> None:
    function, wanted = ONE[name]
    run = locally(lambda party, x: function(form(party, x)), shared_reals(X))
    assert all(result.shape == wanted.shape for result in run.results)
    assert np.array_equal(run.value(), wanted)


SEVERAL: dict[str, tuple[Made, np.ndarray]] = {
    "sum": (lambda x, y: x + y, X + Y),
    "difference": (lambda x, y: x - y, X - Y),
    "joined": (lambda x, y: joined([x, y], axis=1), np.concatenate([X, Y], axis=1)),
    "joined from the end": (lambda x, y: joined([x, y, x], axis=-1), np.concatenate([X, Y, X], axis=-1)),
    "stacked": (lambda x, y: stacked([x, y], axis=-1), np.stack([X, Y], axis=-1)),
    "chosen": (lambda x, y: chosen(X > Y, x, y), np.maximum(X, Y)),
    "picked": (
        lambda x, y: picked([x, y], np.array([[0, 12], [-1, 23]])),
        np.array([[X[0, 0], Y[0, 0]], [0, Y[2, 3]]]),
    ),
    "picked without holes": (lambda x, y: picked([y], np.array([3, 0])), Y[0, [3, 0]]),
    "placed": (lambda x, y: x.placed((slice(None), [1, 0]), y[:, :2]), np.c_[Y[:, 1], Y[:, 0], X[:, 2:]]),
    "added": (
        lambda x, y: x.flat().added_at(np.array([2, 2, 0]), y[0, :3]),
        X.reshape(-1) + np.array([Y[0, 2], 0, Y[0, 0] + Y[0, 1], *([0] * 9)]),
    ),
}


@FORMS
@pytest.mark.parametrize("name", SEVERAL)
def test_several_values(form: Made, name: str) -> None:
    function, wanted = SEVERAL[name]
    run = locally(
        lambda party, x, y: function(form(party, x), form(party, y)), shared_reals(X), shared_reals(Y)
    )
    assert all(result.shape == wanted.shape for result in run.results)
    assert np.array_equal(run.value(), wanted)


@FORMS
def test_the_operands_are_left_as_they_are(form: Made) -> None:
    def program(party: Party, x: Replicated, y: Replicated) -> Form:
        held: Form = form(party, x)
        held.placed(0, form(party, y)[0])
        held.flat().added_at(np.array([0]), form(party, y)[0, :1])
        return held

    assert np.array_equal(locally(program, shared_reals(X), shared_reals(Y)).value(), X)


def test_values_of_two_formats_do_not_go_together() -> None:
    def program(party: Party, x: Replicated) -> Protocol[None]:
        yield from ()
        for other in (x.with_fraction(3), x.modulo(32)):
            with pytest.raises(ProtocolError, match="do not go together"):
                joined([x, other])

    simulate(program, shared_reals(X))


def test_words_on_their_way_are_laid_out_when_they_arrive() -> None:
    def program(party: Party, x: Replicated, y: Replicated) -> Protocol[Replicated]:
        both = [replicate_sum(party, value.as_sum()) for value in (x, y)]
        result = joined(both, axis=1)[:, ::-1] + joined([x, y], axis=1)
        assert result.pending
        assert result.shape == (3, 8)
        yield
        assert not result.pending
        return result.arrived()

    both = np.concatenate([X, Y], axis=1)
    assert np.array_equal(simulate(program, shared_reals(X), shared_reals(Y)).value(), both[:, ::-1] + both)


@pytest.mark.parametrize("format", [RESTING, WHOLE, Format(40, 7)])
def test_public_numbers_as_shares(format: Format) -> None:
    run = locally(lambda party: trivial(party.index, Y, format))
    assert all(result.format == format for result in run.results)
    assert np.array_equal(run.value(), Y)
    assert sum(bool(result.first.any()) for result in run.results) == 1


def test_zeros_take_no_memory() -> None:
    run = locally(lambda party: zeros(party.index, (1 << 20, 1 << 20), RESTING))
    assert run.results[0].first.strides == (0, 0)
    assert run.results[0].shape == (1 << 20, 1 << 20)
