"""Which requests begin together, and what a server without one of them does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from onnxpuma.config import LimitConfig
from onnxpuma.plan.plan import Selection
from onnxpuma.roles.server.job import Batch
from onnxpuma.roles.server.returning import MOST_SECONDS, SHARE
from tests.roles.test_agreement import Net


@pytest.fixture
def net(clock: SimpleNamespace) -> Net:
    return Net()


def settled(net: Net) -> list[list[Batch]]:
    """The batches that each party begins."""
    begun: list[list[Batch]] = [[], [], []]
    for _ in range(6):
        for i, party in enumerate(net.parties):
            party.hear()
            batch = party.turn({})
            if batch is not None:
                begun[i].append(batch)
    return begun


def held_back(net: Net) -> None:
    """Agree on all that wait, and begin nothing."""
    for _ in range(4):
        for party in net.parties:
            party.hear()
            party.turn({}, begin=False)


def numbers(batch: Batch) -> list[int | None]:
    return [None if job is None else job.request.id[0] for job in batch.jobs]


def test_requests_that_all_hold_begin_together_in_one_order(net: Net) -> None:
    for number, client in ((1, "a"), (2, "a"), (3, "b")):
        net.ask(number, client=client)
    held_back(net)
    begun = settled(net)
    assert [[numbers(batch) for batch in batches] for batches in begun] == [[[1, 3, 2]]] * 3
    assert {batch.session for batches in begun for batch in batches} == {begun[0][0].present[0].session}
    for jobs in zip(*(batches[0].present for batches in begun), strict=True):
        drawn = tuple(job.coin for job in jobs)
        assert [job.coins for job in jobs] == [drawn] * 3


def test_no_more_than_the_limit_and_each_client_has_its_turn(net: Net) -> None:
    for party in net.parties:
        party.limits = LimitConfig(batch=2)
    for number in range(1, 5):
        net.ask(number, client="greedy")
    net.ask(5, client="modest")
    held_back(net)
    begun = settled(net)
    assert [numbers(batch) for batch in begun[0]] == [[1, 5], [2, 3], [4]]
    assert [numbers(batch) for batch in begun[2]] == [[1, 5], [2, 3], [4]]


def test_requests_of_other_graphs_and_long_inputs_wait(net: Net) -> None:
    for number, graph, size in ((1, b"a", 6), (2, b"b", 6), (3, b"a", 6), (4, b"a", 6)):
        for job in net.ask(number):
            job.request.body.model_digest = graph
            job.asked.shapes["x"] = (size,)
    for party in net.parties:
        party.limits = LimitConfig(elements=12)
    held_back(net)
    assert [numbers(batch) for batch in settled(net)[0]] == [[1, 3], [2], [4]]


def test_a_request_that_is_put_back_runs_alone(net: Net) -> None:
    net.ask(1)
    net.ask(2)
    held_back(net)
    first = settled(net)
    for party, batches in zip(net.parties, first, strict=True):
        party.put_back(batches[0].present[1])
    net.ask(3)
    net.ask(4)
    held_back(net)
    begun = settled(net)
    assert sorted(map(numbers, begun[0])) == [[2], [3, 4]]
    assert list(map(numbers, begun[0])) == list(map(numbers, begun[1])) == list(map(numbers, begun[2]))


@pytest.mark.parametrize("lacking", [1, 2])
def test_a_server_that_lacks_one_of_them_begins_the_others(lacking: int, net: Net) -> None:
    """A client left, and one server heard of it before party 0 did."""
    net.ask(1)
    jobs = net.ask(2)
    held_back(net)
    del net.parties[lacking].jobs[jobs[lacking].request.id]
    begun = settled(net)
    assert numbers(begun[0][0]) == [1, 2]
    assert numbers(begun[lacking][0]) == [1, None]
    assert not any(net.failures)


def test_a_run_waits_a_moment_for_requests_on_their_way(net: Net, clock: SimpleNamespace) -> None:
    leader = net.parties[0]
    leader.gather = 0.01
    net.ask(1)
    held_back(net)
    net.ask(2, (0,))
    assert settled(net)[0] == []
    assert leader.gathering
    net.ask(2, (1, 2))
    assert [numbers(batch) for batch in settled(net)[0]] == [[1, 2]]
    net.ask(3)
    held_back(net)
    net.ask(4, (0,))
    clock.time += 0.02
    assert [numbers(batch) for batch in settled(net)[0]] == [[3]], "it waits no longer than that"


def continued(net: Net, batch: Batch, seconds: float) -> None:
    """The run of these requests, which keep values, has ended after so many seconds."""
    for job in batch.present:
        job.asked.selection = Selection((), ("present",))
    net.parties[0].ended(batch.present, seconds)


def a_text_and_the_next(net: Net) -> Batch:
    """The run of a's text, which has just ended; b's has come meanwhile."""
    net.ask(1, client="a", route=b"a")
    held_back(net)
    first = settled(net)[0][0]
    net.ask(2, client="b", route=b"b")
    held_back(net)
    continued(net, first, 0.8)
    return first


def test_texts_that_began_apart_share_their_runs_from_then_on(net: Net, clock: SimpleNamespace) -> None:
    a_text_and_the_next(net)
    assert settled(net)[0] == [], "a's next token could join"
    assert net.parties[0].gathering
    net.ask(3, client="a", route=b"a")
    held_back(net)
    assert [sorted(map(int, numbers(batch))) for batch in settled(net)[0]] == [[2, 3]]


def test_who_does_not_come_back_is_not_waited_for(net: Net, clock: SimpleNamespace) -> None:
    first = a_text_and_the_next(net)
    clock.time += SHARE * 0.8 - 0.01
    assert settled(net)[0] == []
    clock.time += 0.02
    assert [numbers(batch) for batch in settled(net)[0]] == [[2]]
    continued(net, first, 3600.0)
    net.ask(4, client="c", route=b"c")
    held_back(net)
    clock.time += MOST_SECONDS + 0.01
    assert [numbers(batch) for batch in settled(net)[0]] == [[4]]


@pytest.mark.parametrize("graph", [b"same", b"other"])
def test_only_who_could_join_is_waited_for(net: Net, graph: bytes) -> None:
    """Neither those of another graph, nor requests that keep nothing."""
    for job in net.ask(1, client="a", route=b"a"):
        job.request.body.model_digest = graph
    held_back(net)
    first = settled(net)[0][0]
    for job in net.ask(2, client="b", route=b"b"):
        job.request.body.model_digest = b"same"
    held_back(net)
    if graph == b"other":
        continued(net, first, 0.8)
    else:
        first.present[0].asked.selection = Selection(("y",))
        net.parties[0].ended(first.present, 0.8)
    assert [numbers(batch) for batch in settled(net)[0]] == [[2]]
