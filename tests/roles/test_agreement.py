"""How three servers agree on the next request: messages, lost messages, and time that runs out."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.config import TimeoutConfig
from onnxpuma.errors import OnnxpumaError, PeerLostError, PlanError, RemoteError, RequestTimeoutError
from onnxpuma.roles.server import leader
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.follower import Follower
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.leader import Leader
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request


class Net:
    """Three agreements, and the messages between them, which arrive when a test calls `settle`."""

    def __init__(self) -> None:
        self.boxes: list[deque[tuple[int, Any]]] = [deque() for _ in range(3)]
        self.cut: set[tuple[int, int]] = set()
        self.failures: list[list[tuple[bytes, OnnxpumaError]]] = [[], [], []]
        kinds: list[type[Agreement]] = [Leader, Follower, Follower]
        self.parties = [
            kinds[i](Wire(self, i), Port(self.failures[i]), TimeoutConfig(1.0, 5.0, 1.0))  # type: ignore[arg-type]
            for i in range(3)
        ]
        self.begun: list[list[Job]] = [[], [], []]
        self.problems: list[dict[int, OnnxpumaError]] = [{}, {}, {}]

    def settle(self) -> None:
        for _ in range(6):
            for i, party in enumerate(self.parties):
                party.hear()
                while (batch := party.turn(self.problems[i])) is not None:
                    self.begun[i] += batch.present

    def ask(
        self,
        number: int,
        parties: tuple[int, ...] = (0, 1, 2),
        plan: str = "aa" * 32,
        client: str = "client",
        route: bytes = b"",
    ) -> list[Job]:
        jobs = []
        for i in parties:
            body = wire_pb2.Request(id=bytes([number]) * 16)
            request = Request(client, body, [], [], route, (0, 0))
            jobs.append(Job(request, SimpleNamespace(plan_digest=plan, shapes={})))  # type: ignore[arg-type]
            self.parties[i].add(jobs[-1])
        return jobs

    def numbers(self) -> list[list[int]]:
        return [[job.request.id[0] for job in jobs] for jobs in self.begun]


class Wire:
    """The part of a PeerLink that an agreement uses."""

    def __init__(self, net: Net, party: int) -> None:
        self.net, self.party = net, party
        self.peers = frozenset({0, 1, 2} - {party})

    def send_control(self, peer: int, message: Any) -> None:
        if (self.party, peer) in self.net.cut:
            raise PeerLostError("cut")
        self.net.boxes[peer].append((self.party, message))

    def poll_control(self, timeout: float) -> Any:
        box = self.net.boxes[self.party]
        return box.popleft() if box else None

    def abort(self, session: bytes, message: str) -> None:
        for peer in self.peers:
            self.net.boxes[peer].append((self.party, wire_pb2.Abort(session=session, message=message)))


class Port:
    """The part of a ClientPort that an agreement uses."""

    def __init__(self, failures: list[tuple[bytes, OnnxpumaError]]) -> None:
        self.failures = failures

    def fail(self, request: Request, error: OnnxpumaError) -> bool:
        self.failures.append((request.id, error))
        return True


@pytest.fixture
def net(clock: SimpleNamespace) -> Net:
    return Net()


def test_all_begin_the_same_request_under_one_session(net: Net) -> None:
    net.ask(1)
    net.settle()
    assert net.numbers() == [[1], [1], [1]]
    assert len({jobs[0].session for jobs in net.begun}) == 1
    assert len(net.begun[0][0].session) == 16


def test_the_order_of_party_0_holds_everywhere(net: Net) -> None:
    net.ask(1, (0,))
    net.ask(2, (0, 1, 2))
    net.ask(1, (1, 2))
    net.ask(3)
    net.settle()
    assert net.numbers()[0] == net.numbers()[1] == net.numbers()[2]
    assert sorted(net.numbers()[0]) == [1, 2, 3]
    assert len({job.session for job in net.begun[0]}) == 3


def test_a_request_that_has_not_reached_everybody_holds_up_nobody(net: Net) -> None:
    net.ask(1, (0, 1))
    net.ask(2)
    net.settle()
    assert net.numbers() == [[2], [2], [2]]
    net.ask(1, (2,))
    net.settle()
    assert net.numbers() == [[2, 1], [2, 1], [2, 1]]


def test_another_request_or_plan_at_one_server_is_refused_everywhere(net: Net) -> None:
    net.ask(1, (0, 1))
    net.ask(1, (2,), plan="bb" * 32)
    net.settle()
    assert net.numbers() == [[], [], []]
    for failures in net.failures:
        assert [request for request, _ in failures] == [b"\1" * 16]
    assert isinstance(net.failures[0][0][1], PlanError)
    assert isinstance(net.failures[2][0][1], PlanError)
    assert isinstance(net.failures[1][0][1], RemoteError)
    assert not any(party.jobs for party in net.parties)
    net.ask(2)
    net.settle()
    assert net.numbers() == [[2], [2], [2]]


def test_an_announcement_that_was_lost_is_repeated(net: Net, clock: SimpleNamespace) -> None:
    net.ask(1)
    net.parties[0].turn({})
    net.boxes[1].clear()
    net.settle()
    assert net.numbers() == [[], [], []]
    clock.time += leader.ANNOUNCE_AGAIN_SECONDS + 0.1
    net.settle()
    assert net.numbers() == [[1], [1], [1]]


def test_a_server_that_forgot_is_asked_again(net: Net, clock: SimpleNamespace) -> None:
    """Party 1 restarts after it said Ready for a request that party 2 does not hold yet."""
    net.ask(1, (0, 1))
    net.settle()
    net.parties[1] = Follower(net.parties[1].link, net.parties[1].port, TimeoutConfig(1.0, 5.0, 1.0))
    net.problems[0] = {1: PeerLostError("away")}
    net.settle()
    net.problems[0] = {}
    clock.time += leader.ANNOUNCE_AGAIN_SECONDS + 0.1
    net.ask(1, (1, 2))
    net.settle()
    assert net.numbers() == [[1], [1], [1]]


def test_begin_for_a_request_that_is_not_held_ends_the_session(net: Net) -> None:
    net.boxes[1].append((0, wire_pb2.Ready(session=b"s" * 16)))
    net.parties[1].hear()
    _, message = net.boxes[0].pop()
    assert isinstance(message, wire_pb2.Abort)
    assert message.session == b"s" * 16
    assert "party 1 does not hold this request" in message.message


def test_party_0_is_the_only_one_to_lead(net: Net) -> None:
    net.ask(1, (1,))
    net.boxes[1].append((2, wire_pb2.Start(session=b"s" * 16, request=b"\1" * 16)))
    net.boxes[1].append((2, wire_pb2.Ready(session=b"s" * 16)))
    net.settle()
    assert net.numbers()[1] == []
    assert not net.failures[1]


def test_late_messages_of_a_begun_request_do_it_no_harm(net: Net) -> None:
    net.ask(1)
    net.settle()
    session = net.begun[0][0].session
    net.boxes[0].append((1, wire_pb2.Ready(session=session)))
    net.boxes[1].append((0, wire_pb2.Start(session=session, request=b"\1" * 16)))
    net.settle()
    assert not any(isinstance(message, wire_pb2.Abort) for box in net.boxes for _, message in box)
    assert net.numbers() == [[1], [1], [1]]


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_client_that_leaves_is_dropped_everywhere(party: int, net: Net) -> None:
    """One server notices it first, before the request has reached all three."""
    holders = (0, 1) if party < 2 else (0, 2)
    jobs = net.ask(1, holders)
    net.settle()
    jobs[holders.index(party)].request.gone = True
    net.settle()
    assert not any(other.jobs for other in net.parties)
    assert net.numbers() == [[], [], []]


def test_a_peer_that_stays_away_fails_the_request(net: Net, clock: SimpleNamespace) -> None:
    net.ask(1)
    net.problems = [{1: PeerLostError("party 1 is away")}, {}, {1: PeerLostError("party 1 is away")}]
    net.settle()
    assert net.failures[0] == []
    clock.time += 1.5
    net.settle()
    assert "party 1 is away" in net.failures[0][0][1].message
    net.problems = [{}, {}, {}]
    net.ask(2)
    net.settle()
    assert net.numbers() == [[2], [2], [2]]


def test_a_peer_that_was_there_until_now_gets_its_time(net: Net, clock: SimpleNamespace) -> None:
    net.ask(1, (0, 2))
    net.settle()
    clock.time += 3.0
    net.settle()
    net.problems[0] = {1: PeerLostError("party 1 is away")}
    clock.time += 0.5
    net.settle()
    assert net.failures[0] == [], "it waited for long, but party 1 is away only since half a second"


def test_a_peer_with_another_model_fails_the_request_at_once(net: Net) -> None:
    net.ask(1)
    net.problems[0] = {2: PlanError("party 2 serves another model")}
    net.settle()
    assert isinstance(net.failures[0][0][1], PlanError)


def test_what_waits_too_long_is_refused(net: Net, clock: SimpleNamespace) -> None:
    net.ask(1, (0, 1))
    net.settle()
    clock.time += 5.5
    net.settle()
    assert isinstance(net.failures[0][0][1], RequestTimeoutError)
    assert not net.parties[0].jobs
    assert not net.parties[1].jobs


def test_a_peer_lost_at_the_last_moment(net: Net) -> None:
    net.ask(1)
    net.parties[0].turn({})
    for i in (1, 2):
        net.parties[i].hear()
        net.parties[i].turn({})
    net.parties[0].hear()
    net.cut.add((0, 2))
    assert net.parties[0].turn({}) is None
    assert isinstance(net.failures[0][0][1], PeerLostError)
    net.cut.clear()
    net.ask(2)
    net.settle()
    assert net.numbers()[0] == [2]


# ---- coins and clients --------------------------------------------------------------------------------


def test_all_begin_with_the_three_coins_that_each_drew_itself(net: Net) -> None:
    jobs = net.ask(1)
    net.settle()
    drawn = tuple(job.coin for job in jobs)
    assert len(set(drawn)) == 3
    assert [len(coin) for coin in drawn] == [32] * 3
    assert [begun[0].coins for begun in net.begun] == [drawn] * 3


def test_a_coin_leaves_a_server_when_it_holds_its_part_and_not_before(net: Net) -> None:
    """Party 0 asked, party 1 answered, party 2 holds nothing yet: nobody knows all three coins."""
    net.ask(1, (0, 1))
    net.parties[0].turn({})
    for party in (1, 2):
        net.parties[party].hear()
        net.parties[party].turn({})
    answers = [message for _, message in net.boxes[0]]
    assert [type(message) for message in answers] == [wire_pb2.Ready]
    assert not net.boxes[2]
    assert not any(isinstance(message, wire_pb2.Ready) for _, message in net.boxes[1])


@pytest.mark.parametrize("coins", [[], [b"short"], [b"c" * 32] * 2])
def test_an_answer_without_a_coin_ends_the_request(coins: list[bytes], net: Net) -> None:
    net.ask(1, (0,))
    net.parties[0].turn({})
    session = net.parties[0].jobs[b"\1" * 16].session
    net.boxes[0].append((1, wire_pb2.Ready(session=session, coins=coins)))
    net.settle()
    assert "sent a malformed Ready" in net.failures[0][0][1].message
    assert not net.parties[0].jobs


@pytest.mark.parametrize("change", ["none", "short", "mine"])
def test_a_beginning_with_other_coins_ends_the_request(change: str, net: Net) -> None:
    """A server whose own coin comes back changed refuses to take part."""
    (job,) = net.ask(1, (1,))
    job.session = b"s" * 16
    coins = {
        "none": [],
        "short": [b"a" * 32, job.coin, b"c" * 31],
        "mine": [b"a" * 32, b"b" * 32, b"c" * 32],
    }[change]
    net.boxes[1].append((0, wire_pb2.Ready(session=job.session, coins=coins)))
    net.parties[1].hear()
    assert net.parties[1].turn({}) is None
    assert "sent a malformed Ready" in net.failures[1][0][1].message
    assert any(isinstance(message, wire_pb2.Abort) for _, message in net.boxes[0])


def test_one_request_of_two_clients_is_none(net: Net) -> None:
    """A server forwards a request, or two clients send the same one, under another client's key."""
    for party, jobs in enumerate((net.ask(1, (0,)), net.ask(1, (1,)), net.ask(1, (2,)))):
        jobs[0].client_key = "mallory" if party == 1 else "alice"
    net.settle()
    assert net.numbers() == [[], [], []]
    assert isinstance(net.failures[1][0][1], PlanError)
