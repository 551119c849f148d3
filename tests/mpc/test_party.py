"""The lockstep of three parties: rounds, words in transit, parallel protocols, and their misuse."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import LockstepError, ProtocolError
from onnxpuma.mpc.buffers import SHORT
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Sum3
from onnxpuma.mpc.party import Later, Party, Protocol, lazily, parallel, taken
from onnxpuma.mpc.prf import local_keys
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_sum, settle
from onnxpuma.mpc.protocols.pivots import thirds
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words
from onnxpuma.mpc.simulate import simulate
from onnxpuma.transport.chained import WrappedLink
from onnxpuma.transport.link import Buffer, Tag
from onnxpuma.transport.memory import memory_links

WORDS = np.arange(5, dtype=np.uint64)


def around(party: Party, words: Words, bits: int = 64) -> Protocol[Words]:
    """Each party sends to the next and receives from the one before."""
    party.send(party.index + 1, words, bits)
    late = party.expect(party.index - 1, words.shape, bits)
    yield
    return late.take()


def test_words_travel_in_one_round() -> None:
    run = simulate(lambda party: around(party, WORDS + np.uint64(party.index)))
    assert run.cost.rounds == 1
    assert [r[0] for r in run.results] == [2, 0, 1]
    assert run.sent == (40, 40, 40)


def test_words_that_are_read_before_the_round_ends() -> None:
    def hasty(party: Party) -> Protocol[Any]:
        party.send(party.index + 1, WORDS, 64)
        late = party.expect(party.index - 1, WORDS.shape, 64)
        late.take()
        yield

    with pytest.raises(ProtocolError, match="read in the round in which they are sent"):
        simulate(hasty)


def test_a_party_counts_the_seconds_in_which_it_waits() -> None:
    def slow(party: Party) -> Protocol[float]:
        if party.index == 0:
            sleep(0.05)
        yield from around(party, WORDS)
        return party.waited

    waited = simulate(slow).results
    assert waited[1] > 0.04, "party 0 sends to it"
    assert waited[0] < 0.04, "the others were there before"


def test_a_protocol_that_ends_before_its_words_have_left() -> None:
    def short(party: Party) -> Protocol[Any]:
        yield
        party.send(party.index + 1, WORDS, 64)

    with pytest.raises(ProtocolError, match="not yet exchanged"):
        simulate(short)


def test_a_protocol_that_ends_before_its_words_have_come() -> None:
    def short(party: Party) -> Protocol[Any]:
        yield
        if party.index:
            party.expect(0, WORDS.shape, 64)

    with pytest.raises(ProtocolError, match="not yet exchanged"):
        simulate(short)


def test_words_may_be_read_rounds_later_and_in_any_order() -> None:
    def patient(party: Party) -> Protocol[list[int]]:
        late = []
        for number in range(3):
            for peer in (party.index + 1, party.index - 1):
                party.send(peer, WORDS[:1] + np.uint64(10 * number + party.index), 64)
                late.append(party.expect(peer, (1,), 64))
            yield
        return [int(late[i].take()[0]) for i in (4, 1, 5, 0, 3, 2)]

    for index, result in enumerate(simulate(patient).results):
        after, before = (index + 1) % 3, (index - 1) % 3
        assert result == [20 + after, before, 20 + before, after, 10 + before, 10 + after]


def test_messages_of_protocols_side_by_side_travel_together() -> None:
    sent = []

    def program(party: Party) -> Protocol[Any]:
        results = yield from parallel(
            [around(party, WORDS), twice(party), around(party, WORDS + np.uint64(1))]
        )
        sent.append(party.link.traffic.messages_sent)
        return results

    def twice(party: Party) -> Protocol[Words]:
        yield from around(party, WORDS)
        return (yield from around(party, WORDS * np.uint64(2)))

    run = simulate(program)
    assert run.cost.rounds == 2
    assert sent == [2, 2, 2]
    for result in run.results:
        assert [list(r[:2]) for r in result] == [[0, 1], [0, 2], [1, 2]]


def test_nothing_in_parallel_takes_no_round() -> None:
    assert simulate(lambda party: parallel([])).cost.rounds == 0


@pytest.mark.parametrize("what", ["step", "label"])
def test_parties_at_different_places_of_the_plan(what: str) -> None:
    def program(party: Party) -> Protocol[Any]:
        setattr(party, what, {"step": party.index, "label": f"Gelu {party.index}"}[what])
        return (yield from around(party, WORDS))

    with pytest.raises(LockstepError):
        simulate(program)


def test_a_round_belongs_to_the_step_in_which_it_ends() -> None:
    """Words announced in one step travel with the round that the next step ends."""

    def program(party: Party) -> Protocol[Any]:
        party.label = "first"
        if party.index == 0:
            party.send(1, WORDS, 64)
        late = party.expect(0, WORDS.shape, 64) if party.index == 1 else None
        party.label = "second"
        if party.index == 1:
            party.send(0, WORDS, 64)
        answer = party.expect(1, WORDS.shape, 64) if party.index == 0 else None
        yield
        return [w.take()[1] for w in (late, answer) if w is not None]

    assert simulate(program).results == [[1], [1], []]


@pytest.mark.parametrize(("most", "buffers"), [(40, 1), (SHORT - 11, 1), (SHORT - 10, 3)])
def test_the_short_words_of_a_round_are_one_buffer(most: int, buffers: int) -> None:
    """Whatever their widths, each arrives where it was announced."""
    sent: list[int] = []

    class Counting(WrappedLink):
        def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
            sent.append(len(buffers))
            super().send(peer, tag, buffers)

    words = [np.arange(3, dtype=np.uint8), np.arange(most, dtype=np.uint8), np.arange(1, 2, dtype=np.uint64)]
    bits = [5, 8, 64]

    def program(party: Party) -> Protocol[Any]:
        party.link = Counting(party.link)
        for each, width in zip(words, bits, strict=True):
            party.send(party.index + 1, each, width)
        late = [
            party.expect(party.index - 1, each.shape, width) for each, width in zip(words, bits, strict=True)
        ]
        yield
        return [w.take() for w in late]

    for result in simulate(program).results:
        for got, each in zip(result, words, strict=True):
            assert np.array_equal(got, each)
    assert sent == [buffers] * 3


@pytest.mark.parametrize("announced", [1, 3])
def test_a_peer_that_sends_another_number_of_buffers(announced: int) -> None:
    def program(party: Party) -> Protocol[Any]:
        late = [party.expect(0, WORDS.shape, 64) for _ in range(announced)] if party.index == 1 else []
        if party.index == 0:
            party.send(1, WORDS, 64)
            party.send(1, WORDS, 64)
        yield
        return [w.take() for w in late]

    with pytest.raises(ProtocolError, match=f"sent 80 bytes in round 0, {40 * announced} were announced"):
        simulate(program)


def test_words_of_another_shape_than_announced() -> None:
    def program(party: Party) -> Protocol[Any]:
        late = party.expect(0, (4,), 64) if party.index == 1 else None
        if party.index == 0:
            party.send(1, WORDS, 64)
        yield
        return late and late.take()

    with pytest.raises(ProtocolError, match="sent 40 bytes in round 0, 32 were announced"):
        simulate(program)


def test_a_pending_value_is_pending_at_all_three() -> None:
    """The pivot of a Pair knows its two components at once, but must wait with the others."""

    def program(party: Party) -> Protocol[Any]:
        role = party.role(1)
        pair = Pair(role, 1, nothing((5,), 64) if role == 0 else WORDS, Format(64, 0))
        x = replicate_pair(party, pair).map(lambda w: w[1:])
        assert x.pending
        x = yield from settle(party, x)
        assert not x.pending
        y = yield from settle(party, x)
        after = yield from around(party, y.first)
        z = yield from settle(party, replicate_sum(party, Sum3(party.index, after, Format(64, 0))))
        return party.round, x.first, z.first

    run = simulate(program)
    assert [rounds for rounds, *_ in run.results] == [3, 3, 3]
    assert list(sum(x for _, x, _ in run.results)) == [2, 4, 6, 8]
    assert list(sum(z for *_, z in run.results)) == [2, 4, 6, 8]


def test_lazily() -> None:
    def program(party: Party) -> Protocol[Any]:
        party.send(party.index + 1, WORDS, 64)
        late = party.expect(party.index - 1, WORDS.shape, 64)
        early = Later.early(party, WORDS)
        both = lazily(lambda a, b: a[1:] + b[1:], late, early)
        known = lazily(lambda a: a * np.uint64(2), early)
        assert isinstance(both, Later)
        assert isinstance(known, Later)
        assert (both.shape, both.readable, both.pending) == ((4,), False, True)
        assert (known.readable, known.pending) == (True, True)
        assert isinstance(lazily(lambda a: a, WORDS), np.ndarray)
        yield
        assert not known.pending
        return taken(both), taken(known)

    for both, known in simulate(program).results:
        assert list(both) == [2, 4, 6, 8]
        assert list(known) == [0, 2, 4, 6, 8]


def test_one_session_after_another_counts_on() -> None:
    rounds: list[int] = []
    links, keys = memory_links(timeout=5.0), local_keys()
    parties = [Party(links[i], keys[i], on_round=lambda: rounds.append(1)) for i in range(3)]
    for _ in range(2):
        running = [around(party, WORDS) for party in parties]
        for protocol in running:
            next(protocol)
        for party in parties:
            party.exchange()
        for protocol in running:
            with pytest.raises(StopIteration):
                next(protocol)
    assert [p.round for p in parties] == [2, 2, 2]
    assert len(rounds) == 6


def test_pivots_take_turns_and_roles_follow_them() -> None:
    def program(party: Party) -> Protocol[Any]:
        yield from ()
        pivots = [party.next_pivot() for _ in range(6)]
        return pivots, [party.role(p) for p in range(3)]

    results = simulate(program).results
    assert all(sorted(pivots[:3]) == [0, 1, 2] and pivots[:3] == pivots[3:] for pivots, _ in results)
    assert len({tuple(pivots) for pivots, _ in results}) == 1
    assert [roles for _, roles in results] == [[0, 2, 1], [1, 0, 2], [2, 1, 0]]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 1000])
def test_thirds(size: int) -> None:
    parts = thirds(size)
    assert [i for part in parts for i in range(size)[part]] == list(range(size))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_a_key_that_is_not_held() -> None:
    def program(party: Party) -> Protocol[Any]:
        yield from ()
        party.draw(party.index + 2, (1,), 8)

    with pytest.raises(KeyError):
        simulate(program)
