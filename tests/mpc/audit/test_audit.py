"""The audit has teeth: both checks find protocols broken in the usual ways, at the right party."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.audit.enumeration import leaks, uniform, unmasked
from onnxpuma.mpc.audit.views import Input, everything, random_inputs, random_source, record
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V
from onnxpuma.mpc.ring.words import Words

K = 4
A = Input(K, frozenset({0}))  # the pivot is P_0, u is P_1, v is P_2
Y_U, Y_V = Input(K, frozenset({1})), Input(K, frozenset({2}))


def masked(party: Party, a: Words) -> Protocol[Any]:
    """A sound protocol: the pivot sends v its A, less a word that u and the pivot hold."""
    if party.role(0) == PIVOT:
        party.send(2, a - party.draw(1, a.shape, K), K)
    elif party.role(0) == U:
        party.draw(1, a.shape, K)
    else:
        party.expect(0, a.shape, K)
    yield


def bare(party: Party, a: Words) -> Protocol[Any]:
    """The mask is forgotten."""
    if party.role(0) == PIVOT:
        party.send(2, a, K)
    elif party.role(0) == V:
        party.expect(0, a.shape, K)
    yield


def derivable(party: Party, a: Words) -> Protocol[Any]:
    """The mask comes from a key that the receiver holds."""
    if party.role(0) == PIVOT:
        party.send(2, a - party.draw(0, a.shape, K), K)
    elif party.role(0) == V:
        party.draw(0, a.shape, K)
        party.expect(0, a.shape, K)
    yield


def twice(party: Party, a: Words) -> Protocol[Any]:
    """One mask hides two messages: their difference is bare."""
    if party.role(0) != V:
        mask = party.draw(1, a.shape, K)
        if party.role(0) == PIVOT:
            party.send(2, a - mask, K)
            party.send(2, a * a - mask, K)
    else:
        party.expect(0, a.shape, K)
        party.expect(0, a.shape, K)
    yield


def later(party: Party, a: Words) -> Protocol[Any]:
    """The receiver learns the mask one round later."""
    if party.role(0) != V:
        mask = party.draw(1, a.shape, K)
        if party.role(0) == PIVOT:
            party.send(2, a - mask, K)
        yield
        if party.role(0) == U:
            party.send(2, mask, K)
    else:
        party.expect(0, a.shape, K)
        yield
        party.expect(1, a.shape, K)
    yield


def narrow(party: Party, a: Words) -> Protocol[Any]:
    """The mask is one bit too short."""
    if party.role(0) == PIVOT:
        party.send(2, a - (party.draw(1, a.shape, K - 1) & np.uint8(7)), K)
    elif party.role(0) == U:
        party.draw(1, a.shape, K - 1)
    else:
        party.expect(0, a.shape, K)
    yield


def scaled(party: Party, a: Words) -> Protocol[Any]:
    """The mask is doubled, so the low bit is bare."""
    if party.role(0) == PIVOT:
        party.send(2, a - party.draw(1, a.shape, K) * np.uint8(2), K)
    elif party.role(0) == U:
        party.draw(1, a.shape, K)
    else:
        party.expect(0, a.shape, K)
    yield


def one_sided(party: Party, y_u: Words, y_v: Words) -> Protocol[Any]:
    """The twins exchange their halves, but only u's is masked."""
    if party.role(0) == PIVOT:
        party.draw(1, y_u.shape, K)
    elif party.role(0) == U:
        party.send(2, y_u - party.draw(1, y_u.shape, K), K)
        party.expect(2, y_u.shape, K)
    else:
        party.send(1, y_v, K)
        party.expect(1, y_u.shape, K)
    yield


def test_a_healthy_protocol_passes() -> None:
    assert leaks(everything(masked, [A]), [A]) == []
    assert unmasked(masked, [A]) == []


@pytest.mark.parametrize("broken", [bare, derivable, twice, later, narrow, scaled])
def test_a_leak_to_v_is_found(broken: Any) -> None:
    assert leaks(everything(broken, [A]), [A]) == [2]
    assert {word.receiver for word in unmasked(broken, [A])} == {2}


def test_a_leak_to_one_twin_is_found() -> None:
    inputs = [Y_U, Y_V]
    assert leaks(everything(one_sided, inputs), inputs) == [1]
    assert {word.receiver for word in unmasked(one_sided, inputs)} == {1}


def test_a_word_that_depends_on_public_things_alone_is_no_leak_but_has_no_mask() -> None:
    def constant(party: Party, a: Words) -> Protocol[Any]:
        if party.role(0) == PIVOT:
            party.send(2, np.zeros_like(a), K)
        elif party.role(0) == V:
            party.expect(0, a.shape, K)
        yield

    assert leaks(everything(constant, [A]), [A]) == []
    assert len(unmasked(constant, [A])) == 1


@pytest.mark.parametrize(("count", "bits", "now"), [(2, K, 0), (1, K - 1, 0), (1, K, 1)])
def test_holders_of_a_key_that_draw_differently_are_found(count: int, bits: int, now: int) -> None:
    def uneven(party: Party, a: Words) -> Protocol[Any]:
        if party.role(0) == PIVOT:
            party.draw(1, a.shape, K)
        if now:
            yield
        if party.role(0) == U:
            party.draw(1, (*a.shape, count), bits)
        yield

    with pytest.raises(ProtocolError, match="place 0 of key 1"):
        run(uneven)


def test_a_word_drawn_by_one_holder_alone_is_found() -> None:
    def alone(party: Party, a: Words) -> Protocol[Any]:
        if party.role(0) == U:
            party.draw(1, a.shape, K)
        yield

    with pytest.raises(ProtocolError, match="drew more words"):
        run(alone)


def test_a_word_of_a_key_that_is_not_held_is_found() -> None:
    def foreign(party: Party, a: Words) -> Protocol[Any]:
        party.draw(1, a.shape, K)
        yield

    with pytest.raises(ProtocolError, match="does not hold"):
        run(foreign)


def test_parties_that_yield_unequally_often_are_found() -> None:
    def short(party: Party, a: Words) -> Protocol[Any]:
        if party.role(0) == PIVOT:
            yield
        yield

    with pytest.raises(ProtocolError, match="ended before"):
        run(short)


def run(program: Any) -> None:
    record(program, random_inputs([A], 64, 0), 64, random_source(64, 0))


def test_uniform() -> None:
    every = np.arange(64, dtype=np.uint8)
    given = every >> 4
    assert uniform([every & 3, every >> 2], 2, given)
    assert not uniform([every & 3, every & 3], 2, given)
    assert not uniform([every >> 4], 2, given)
    skewed = every.copy()
    skewed[5] = 6
    assert not uniform([skewed & 3, skewed >> 2], 2, given)
