"""Which requests begin beside the runs under way: those that cannot share one, of every client in turn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from onnxpuma.config import LimitConfig
from onnxpuma.plan.plan import Selection
from onnxpuma.roles.server import places
from onnxpuma.roles.server.job import Batch, Job
from tests.roles.test_agreement import Net

SLOW, QUICK, THIRD = (bytes([number]) * 32 for number in range(3))


class Busy(Net):
    """Three agreements whose runs go on until a test ends them."""

    def __init__(self, sessions: int = 2) -> None:
        super().__init__()
        self.batches: list[Batch] = []  # at party 0
        for party in self.parties:
            party.limits = LimitConfig(sessions=sessions)

    def settle(self) -> None:
        for _ in range(6):
            for i, party in enumerate(self.parties):
                party.hear()
                while (batch := party.turn({})) is not None:
                    party.running.append(batch)
                    self.begun[i] += batch.present
                    if i == 0:
                        self.batches.append(batch)

    def end(self, number: int) -> None:
        """The run of this request ends at all three."""
        for party in self.parties:
            party.running = [
                batch for batch in party.running if number not in [j.request.id[0] for j in batch.present]
            ]

    def send(
        self, number: int, graph: bytes = SLOW, client: str = "client", kept: bool = False, **more: object
    ) -> list[Job]:
        jobs = self.ask(number, client=client)
        selection = Selection(("y",), ("cache",) if kept else ())
        for job in jobs:
            job.request.body.model_digest = graph
            job.asked = SimpleNamespace(  # type: ignore[assignment]
                plan_digest="aa" * 32, shapes={}, held={}, release=(), selection=selection
            )
            vars(job).update(more)
        return jobs

    def runs(self) -> list[list[int]]:
        return [[job.request.id[0] for job in batch.present] for batch in self.batches]


@pytest.fixture
def net(clock: SimpleNamespace) -> Busy:
    return Busy()


def test_a_request_of_another_graph_begins_beside_a_run(net: Busy) -> None:
    net.send(1, SLOW)
    net.settle()
    net.send(2, QUICK)
    net.settle()
    assert net.runs() == [[1], [2]]
    net.send(3, THIRD)
    net.settle()
    assert net.runs() == [[1], [2]], "there are two places"
    net.end(2)
    net.settle()
    assert net.runs() == [[1], [2], [3]]
    assert net.numbers() == [[1, 2, 3]] * 3


@pytest.mark.parametrize("sessions", [1, 2, 4])
def test_sixteen_requests_of_one_graph_are_one_run(sessions: int, clock: SimpleNamespace) -> None:
    """Also where places are free, while another graph's run is under way, and while their own is."""
    net = Busy(sessions)
    for number in range(1, 17):
        net.send(number, SLOW, f"client {number % 4}")
    net.settle()
    assert [len(run) for run in net.runs()] == [16]
    if sessions > 1:
        net.send(40, QUICK)
        net.settle()
        assert [len(run) for run in net.runs()] == [16, 1]
    for number in range(17, 33):
        net.send(number, SLOW, f"client {number % 4}")
        net.settle()  # they come one by one
    assert [len(run) for run in net.runs()][2:] == []
    net.end(1)
    net.settle()
    assert len(net.runs()[-1]) == 16


def test_a_request_does_not_wait_for_ever_for_the_run_of_its_graph(net: Busy, clock: SimpleNamespace) -> None:
    net.send(1)
    net.settle()
    net.send(2)
    net.send(3)
    clock.time += places.JOIN_SECONDS - 0.5
    net.settle()
    assert net.runs() == [[1]]
    for party in net.parties:
        party.timeouts = SimpleNamespace(request=600.0, arrival=60.0, connect=60.0)  # type: ignore[assignment]
    clock.time += 1.0
    net.settle()
    assert net.runs() == [[1], [2, 3]]


def test_what_runs_alone_takes_a_free_place(net: Busy) -> None:
    net.send(1)
    net.settle()
    net.send(2, alone=True)
    net.settle()
    assert net.runs() == [[1], [2]]


def test_no_client_takes_a_second_place_while_another_waits(net: Busy) -> None:
    net.send(1, SLOW, "greedy")
    net.settle()
    net.ask(9, (0,), client="modest")  # it waits; the other servers do not hold it yet
    net.send(2, QUICK, "greedy")
    net.send(3, THIRD, "greedy")
    net.settle()
    assert net.runs() == [[1]]
    net.send(4, QUICK, "modest")
    net.settle()
    assert net.runs() == [[1], [4, 2]], "one run of a graph may serve both"


def test_the_only_client_takes_all_places(net: Busy) -> None:
    net.send(1, SLOW)
    net.send(2, QUICK)
    net.settle()
    assert net.runs() == [[1], [2]]


def test_requests_with_kept_values_of_one_client_run_in_order(net: Busy) -> None:
    net.send(1, SLOW, "writer", kept=True)
    net.settle()
    net.send(2, QUICK, "writer", kept=True)
    net.settle()
    assert net.runs() == [[1]]
    net.send(3, QUICK, "reader", kept=True)
    net.settle()
    assert net.runs() == [[1], [3]], "the other client's go on, and the first's does not join them"
    net.end(1)
    net.end(3)
    net.settle()
    assert net.runs() == [[1], [3], [2]]


def test_one_session_is_one_run_at_a_time(clock: SimpleNamespace) -> None:
    net = Busy(1)
    net.send(1, SLOW)
    net.settle()
    net.send(2, QUICK)
    net.settle()
    assert net.runs() == [[1]]
    net.end(1)
    net.settle()
    assert net.runs() == [[1], [2]]
