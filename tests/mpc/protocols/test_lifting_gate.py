"""A gate into a larger ring: exact where the bit is set, zero elsewhere, whatever the ring holds there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols.lifting_gate import gated_up, lifting_gate
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import from_integers, reduced, signed
from onnxpuma.mpc.simulate import shared_words, simulate

RNG = np.random.default_rng(22)
FORMS = pytest.mark.parametrize("form", [Replicated, Split])


def bit_of(party: Party, q: np.ndarray, mask: np.ndarray, pivot: int) -> Bit:
    role = party.role(pivot)
    plane = np.packbits(mask if role == U else mask ^ q.reshape(-1), bitorder="little")
    return Bit(role, pivot, nothing(plane.shape, 8) if role == PIVOT else plane, q.shape)


def part(party: Party, x: Replicated, pivot: int, form: type) -> Replicated | Split:
    if form is Replicated:
        return x
    seen = see(party, x, pivot)
    return Split(seen.role, pivot, seen.words, seen.format)


@FORMS
@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize(("k", "bits", "least"), [(4, 9, None), (17, 25, 0), (18, 60, -99), (40, 41, None)])
def test_exact_over_the_whole_range(k: int, bits: int, least: int | None, pivot: int, form: type) -> None:
    low = -(1 << (k - 2)) if least is None else least
    ends = np.array([0, 1, (1 << (k - 1)) - 1, 1 << (k - 2)]) + low
    values = np.concatenate([np.tile(ends, 60), RNG.integers(low, low + (1 << (k - 1)), 2760)]).reshape(4, -1)
    q, mask = (
        RNG.integers(0, 2, values.shape).astype(np.uint8),
        RNG.integers(0, 2, values.size).astype(np.uint8),
    )
    held = np.where(q, values, RNG.integers(0, 1 << k, values.shape))

    def program(party: Party, x: Replicated) -> Protocol[Pair]:
        bit = bit_of(party, q, mask, pivot)
        return (yield from lifting_gate(party, bit, part(party, x, pivot, form), bits, least))

    run = simulate(program, shared_words(reduced(from_integers(held, k), k), k, 3))
    assert (run.results[0].format, run.results[0].shape) == (Format(bits, 3), values.shape)
    assert np.array_equal(signed(run.words(), bits), np.where(q, values, 0))


@FORMS
def test_a_value_beside_it(form: type) -> None:
    values, more = RNG.integers(-8, 8, 3000), RNG.integers(-2000, 2000, 3000)
    q, mask = RNG.integers(0, 2, (2, 3000)).astype(np.uint8)

    def program(party: Party, x: Replicated, y: Replicated) -> Protocol[Pair]:
        bit = bit_of(party, q, mask, 1)
        return (yield from lifting_gate(party, bit, part(party, x, 1, form), 13, beside=see(party, y, 1)))

    words = [shared_words(reduced(from_integers(v, b), b), b) for v, b in ((values, 5), (more, 13))]
    assert np.array_equal(signed(simulate(program, *words).words(), 13), np.where(q, values + more, 0))


@FORMS
def test_all_values_and_all_shares(form: type) -> None:
    """A ring of five bits, all sums of the pivot's two parts and the twins' one."""
    value, first, second = (
        w.reshape(-1) for w in np.meshgrid(np.arange(-8, 8), np.arange(32), np.arange(32))
    )
    q, mask = np.ones(value.size, np.uint8), RNG.integers(0, 2, value.size).astype(np.uint8)
    components = [reduced(from_integers(w, 5), 5) for w in (first, second, value - first - second)]

    def program(party: Party) -> Protocol[Pair]:
        i = party.index
        x = Replicated(i, components[i], components[(i + 1) % 3], Format(5, 0))
        return (yield from lifting_gate(party, bit_of(party, q, mask, 0), part(party, x, 0, form), 9))

    assert np.array_equal(signed(simulate(program).words(), 9), value)


@pytest.mark.parametrize(("straight", "rounds"), [(False, 3), (True, 2)])
def test_gated_and_replicated(straight: bool, rounds: int) -> None:
    values = RNG.integers(0, 1 << 16, 3000)
    q, mask = RNG.integers(0, 2, (2, 3000)).astype(np.uint8)

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from gated_up(party, bit_of(party, q, mask, 2), see(party, x, 2), 60, straight))

    run = simulate(program, shared_words(from_integers(values, 17), 17))
    assert run.cost.rounds == rounds
    assert np.array_equal(signed(run.words(), 60), np.where(q, values, 0))


def test_what_does_not_go_together() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        for shape, bits in (((2, 2), 20), ((4,), 12)):
            q = bit_of(party, np.ones(shape, np.uint8), np.zeros(4, np.uint8), 0)
            with pytest.raises(ProtocolError, match="a larger ring"):
                next(lifting_gate(party, q, x, bits))
        q = bit_of(party, np.ones(4, np.uint8), np.zeros(4, np.uint8), 0)
        alone = Split(party.role(0), 0, from_integers(np.arange(4), 20), Format(20, 0))
        gate = lifting_gate(party, q, x, 20, beside=alone)
        next(gate)
        party.exchange()
        if party.role(0) != PIVOT:
            with pytest.raises(ProtocolError, match="no halves"):
                next(gate)
        yield from ()

    simulate(program, shared_words(from_integers(np.arange(4), 12), 12))
