"""The range check: the findings and cost of each quantity; and the client learns only "none" or "some"."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.audit.enumeration import unmasked
from onnxpuma.mpc.audit.views import Input, everything
from onnxpuma.mpc.format import WHOLE, Format
from onnxpuma.mpc.forms import Bit, Replicated, Sum3
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.prf import AesStream
from onnxpuma.mpc.protocols import range_check
from onnxpuma.mpc.protocols.range_check import COMBINED, SAMPLES, any_of, any_of_cost, beyond, beyond_cost
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words, from_integers, signed
from onnxpuma.mpc.sharing import outgoing
from onnxpuma.mpc.simulate import Run, shared_reals, shared_words, simulate

RNG = np.random.default_rng(4)
P = 1


def stream() -> AesStream:
    return AesStream(bytes(range(16)))


def bits_at(party: Party, planes: list[np.ndarray], pivot: int) -> Bit:
    role, count = party.role(pivot), planes[0].size
    if role == PIVOT:
        return Bit(role, pivot, nothing((-(-count // 8),), 8), (1, count))
    return Bit(role, pivot, np.packbits(planes[0 if role == U else 1], bitorder="little"), (1, count))


def told(bits: np.ndarray, pivots: tuple[int, ...] = (0,)) -> Run:
    mask = RNG.integers(0, 2, bits.size).astype(np.uint8)
    planes = [mask, mask ^ bits]

    def program(party: Party) -> Protocol[Any]:
        return (yield from any_of(party, [bits_at(party, planes, p) for p in pivots], stream()))

    return simulate(program)


@pytest.mark.parametrize("count", [1, 7, COMBINED, COMBINED + 1, 5000])
@pytest.mark.parametrize("pivots", [(0,), (2, 1, 0), (1, 1)])
def test_one_number_tells_whether_any_bit_is_set(count: int, pivots: tuple[int, ...]) -> None:
    run = told(np.zeros(count, np.uint8), pivots)
    assert run.words().tolist() == [0]
    counts = [pivots.count(p) * count for p in range(3)]
    assert run.cost == any_of_cost(counts)
    for place in {0, count // 2, count - 1}:
        bits = np.zeros(count, np.uint8)
        bits[place] = 1
        if len(set(pivots)) == len(pivots):  # equal bits may cancel in one subset, and in all of a few
            assert told(bits, pivots).words()[0] != 0
    assert told(np.ones(count, np.uint8)).words()[0] != 0


def test_the_number_is_another_each_time() -> None:
    found = {int(told(np.ones(60, np.uint8)).words()[0]) for _ in range(8)}
    assert len(found) == 8


@pytest.mark.parametrize("bits", [16, 30, 46, 64])
@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("side", ["above", "under", "outside", "inside"])
def test_numbers_beyond_their_bounds(bits: int, product: bool, side: str) -> None:
    values = np.array([4, 0, 899, 900, -899, -900, -901, 5000, -5000, (1 << (bits - 1)) - 1000])
    wanted = {
        "above": values >= 900,
        "under": values < 900,
        "outside": np.abs(values) >= 900,
        "inside": np.abs(values) < 900,
    }

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        form = Sum3(party.index, x.first, Format(bits, 0)) if product else x
        return (yield from beyond(party, form, 900, side, P))

    run = simulate(program, shared_words(from_integers(values, bits), bits))
    each = zip(*run.results, strict=True)
    found = np.array([Run(list(bit), run.cost, run.sent).words() for bit in each])
    assert found.shape == (1 + (side == "outside"), len(values))
    assert np.array_equal(found.any(axis=0), wanted[side])
    assert run.cost == beyond_cost(len(values), side, bits, Sum3 if product else Replicated)


def test_neighbours_of_different_signs() -> None:
    values = np.array([3, 4, -3, 4, 0, -1, -5, -6, 7, -8])

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        (bit,) = yield from beyond(party, x, 1, "opposite", P)
        return bit

    run = simulate(program, shared_words(from_integers(values, 20), 20))
    assert run.words().tolist() == [0, 1, 1, 0, 1]
    assert run.cost == beyond_cost(len(values), "opposite", 20, Replicated)


def test_what_is_too_far_out_to_compare_is_beyond_all_the_same() -> None:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        return (yield from beyond(party, x, 900, "outside", P))

    run = simulate(program, shared_words(from_integers(np.array([-(1 << 15), (1 << 15) - 1]), 16), 16))
    found = np.array([Run(list(bit), run.cost, run.sent).words() for bit in zip(*run.results, strict=True)])
    assert found.any(axis=0).all()


def quantity(function: Any, values: np.ndarray, *arguments: Any, product: bool = False) -> np.ndarray:
    def program(party: Party, x: Replicated) -> Protocol[Sum3]:
        yield from ()
        form = Sum3(party.index, x.first, x.format) if product else x
        return function(party, form, *arguments)

    run = simulate(program, shared_reals(values))
    assert run.cost.rounds == 0
    first = run.results[0]
    return signed(run.words(), first.bits) * 2.0**-first.fraction


@pytest.mark.parametrize("shift", [4, 9, 14])
def test_squares_and_deviations_of_rows(shift: int) -> None:
    x = RNG.normal(0, 30, (6, 50)) + 20
    length = np.linalg.norm(x, axis=1)
    found = np.sqrt(quantity(range_check.row_squares, x, shift))
    off = 1.5 * 2.0 ** (shift - 18) * np.sqrt(50)
    assert np.abs(found - length).max() < off + 1e-3
    apart = np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=1)
    found = np.sqrt(np.maximum(quantity(range_check.row_deviations, x, shift) / 50, 0))
    assert np.abs(found - apart).max() < off + 1e-3


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("far", [600.0, -600.0, 2.0**40, -(2.0**44)])
def test_an_element_far_out_shows_in_half_of_the_samples(far: float, whole: bool, product: bool) -> None:
    x = RNG.normal(0, 3, (2, 100))
    x[1, 17] = far
    if whole:  # then half the distance is enough, and words do not wrap
        x[1, 17] = far / 2 if abs(far) < 2.0**43 else far / 8

    def sampled(party: Party, form: Any) -> Sum3:
        return range_check.samples(party, form, 15, stream(), whole)

    found = np.abs(quantity(sampled, x, product=product)).reshape(2, SAMPLES)
    assert (found[0] < 250).all()
    assert SAMPLES / 5 < (found[1] >= 300).sum() <= SAMPLES * (1.0 if whole else 0.8)


# -- privacy ------------------------------------------------------------------------------------------


def told_of(party: Party, *w: Words) -> Protocol[Sum3]:
    """For two bits at pivot P, each in two parts."""
    role = party.role(P)
    held = np.stack(w[max(role, 1) - 1 :: 2], axis=1) & np.uint8(1)
    plane = np.packbits(held, bitorder="little")
    bit = Bit(role, P, nothing(plane.shape, 8) if role == PIVOT else plane, held.shape)
    return (yield from any_of(party, [bit]))


def test_the_client_and_a_server_together_learn_one_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All bits, all random words, in Z_2: what a server sees and the number that the client opens depend on
    what the server does not hold by whether any bit is set, and by nothing else."""
    monkeypatch.setattr(range_check, "WIDTH", 1)
    inputs = [Input(1, frozenset({(P + 1 + n % 2) % 3})) for n in range(4)]
    recording = everything(told_of, inputs)
    lanes = recording.tape.lanes
    result = sum(form.words.astype(np.uint64) for form in recording.results) & np.uint64(1)
    code = np.arange(lanes) // (lanes // 16)  # of the inputs, the first is the highest bit
    words = [(code >> (3 - n)) & 1 for n in range(4)]
    some = (words[0] ^ words[1]) | (words[2] ^ words[3])
    assert not result[some == 0].any()
    assert 2 * int(result[some == 1].sum()) == int((some == 1).sum())
    for party in range(3):
        view = result.copy()
        for part in (*recording.derived(party), *recording.received(party)):
            for column in part.words.T:
                view = view << np.uint64(1) | column
        held = [n for n, given in enumerate(inputs) if party in given.known]
        alike: dict[tuple[int, ...], list[np.ndarray]] = {}
        for number in range(16):
            lane = code == number
            known = (*(int(words[n][lane][0]) for n in held), int(some[lane][0]))
            alike.setdefault(known, []).append(np.sort(view[lane]))
        assert max(map(len, alike.values())) >= 3
        for views in alike.values():
            assert all(np.array_equal(other, views[0]) for other in views)


def test_the_number_is_masked_when_it_leaves() -> None:
    def program(party: Party) -> Protocol[Sum3]:
        total = yield from any_of(party, [bits_at(party, [np.ones(3, np.uint8), np.zeros(3, np.uint8)], P)])
        return outgoing(party, total, WHOLE)

    pivots = {int(simulate(program).results[P].words[0]) for _ in range(4)}
    assert len(pivots) == 4, "the pivot's own term is zero before"


def checked(party: Party, *w: Words) -> Protocol[Sum3]:
    x = Replicated(party.index, w[party.index], w[(party.index + 1) % 3], Format(64, 18))
    rows = x.map(lambda words: words.reshape(-1, 1))
    squares = range_check.row_squares(party, rows, 10)
    bits = yield from beyond(party, squares, 1000, "outside", P)
    return (yield from any_of(party, [Bit(b.role, b.pivot, b.plane, (b.size, 1)) for b in bits]))


def test_every_word_received_is_hidden_by_a_fresh_one() -> None:
    assert unmasked(checked, [Input(64, frozenset({j, (j + 2) % 3})) for j in range(3)]) == []
