"""Gates: a secret bit times a value, exact in the ring; and a bit converted to a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols.gate import arithmetic, concatenated, gate
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import from_integers, reduced, word_type
from onnxpuma.mpc.simulate import Run, shared_words, simulate

RNG = np.random.default_rng(9)


def shared_bits(bits: np.ndarray) -> list[np.ndarray]:
    """Two packed planes that xor to the bits."""
    mask = RNG.integers(0, 2, bits.size).astype(np.uint8)
    return [np.packbits(p, bitorder="little") for p in (mask, mask ^ bits.reshape(-1))]


def bit_at(party: Party, planes: list[np.ndarray], pivot: int, shape: tuple[int, ...]) -> Bit:
    role = party.role(pivot)
    plane = nothing(planes[0].shape, 8) if role == PIVOT else planes[0 if role == U else 1]
    return Bit(role, pivot, plane, shape)


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("bits", [1, 7, 20, 28, 64])
def test_a_gated_value(bits: int, halves: bool, pivot: int) -> None:
    for shape in ((1,), (5,), (3, 4), (0,), ()):
        q = RNG.integers(0, 2, shape).astype(np.uint8)
        words = np.asarray(RNG.integers(0, 1 << 64, shape, np.uint64)).astype(word_type(bits))
        planes = shared_bits(np.asarray(q))

        def program(party: Party, x: Replicated, planes: Any = planes, shape: Any = shape) -> Protocol[Any]:
            seen = see(party, x, pivot)
            if not halves:
                seen = Split(seen.role, pivot, seen.words, Format(bits, 3))
            return (yield from gate(party, bit_at(party, planes, pivot, shape), seen))

        run = simulate(program, shared_words(words, bits, 3))
        assert (run.results[0].bits, run.results[0].fraction, run.results[0].shape) == (bits, 3, shape)
        assert np.array_equal(
            run.words(), reduced(np.asarray(np.where(q, words, 0)).astype(words.dtype), bits)
        )


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 12, 64])
def test_a_bit_as_a_number(bits: int, pivot: int) -> None:
    q = RNG.integers(0, 2, (3, 11)).astype(np.uint8)
    planes = shared_bits(q)

    def program(party: Party) -> Protocol[Any]:
        return (yield from arithmetic(party, bit_at(party, planes, pivot, q.shape), bits))

    run = simulate(program)
    assert run.results[0].fraction == 0
    assert np.array_equal(run.words(), q)


def test_bits_end_to_end() -> None:
    values = [RNG.integers(0, 2, (2, 5)).astype(np.uint8) for _ in range(3)]
    planes = [shared_bits(v) for v in values]

    def program(party: Party) -> Protocol[Bit]:
        yield from ()
        return concatenated([bit_at(party, p, 1, (2, 5)) for p in planes])

    run: Run = simulate(program)
    assert run.results[1].shape == (3, 2, 5)
    assert np.array_equal(run.words(), np.stack(values))


def test_bits_and_values_that_do_not_go_together() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        planes = shared_bits(np.ones(4, np.uint8))
        seen = see(party, x, 0)
        for q in (bit_at(party, planes, 1, (4,)), bit_at(party, planes, 0, (2, 2))):
            with pytest.raises(ProtocolError, match="led by one pivot"):
                next(gate(party, q, seen))
            with pytest.raises(ProtocolError, match="led by one pivot"):
                concatenated([bit_at(party, planes, 0, (4,)), q])
        yield from ()

    simulate(program, shared_words(from_integers(np.arange(4), 64), 64))
