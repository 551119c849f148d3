"""Whose request is next, and how long a request waits that has not reached every server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.config import LimitConfig, TimeoutConfig
from onnxpuma.errors import BusyError, RequestTimeoutError
from onnxpuma.mpc.prf import PART_BYTES
from onnxpuma.roles.server import turns as turns_module
from onnxpuma.roles.server.follower import Follower
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.leader import Leader
from onnxpuma.roles.server.turns import Turns, check_share
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request

MEGABYTE = 1_000_000


def request(client: str, route: bytes = b"", number: int = 0, size: int = 0) -> Request:
    body = wire_pb2.Request(id=bytes([number]) * 16)
    return Request(client, body, [], [memoryview(bytes(size))] if size else [], route, (0, 0))


def waiting(*made: Request) -> list[Any]:
    return [SimpleNamespace(request=one) for one in made]


def served(jobs: list[Any], most: int = 100) -> list[str]:
    """The order in which these are served if all could begin."""
    turns, order = Turns(), []
    while jobs and len(order) < most:
        one = turns.next(jobs)
        jobs.remove(one)
        turns.begin(one)
        order.append(f"{one.request.client}{one.request.route.decode()}")
    return order


def test_clients_take_turns_however_much_one_asks() -> None:
    jobs = waiting(*[request("greedy") for _ in range(6)], request("modest"), request("third"))
    assert served(jobs) == ["greedy", "modest", "third"] + ["greedy"] * 5


def test_connections_of_one_client_take_turns() -> None:
    jobs = waiting(*[request("a", b"1") for _ in range(3)], request("a", b"2"), request("b", b"3"))
    assert served(jobs) == ["a1", "b3", "a2", "a1", "a1"]


def test_in_order_of_arrival_where_all_else_is_equal() -> None:
    jobs = waiting(*[request(name) for name in "cab"])
    assert served(jobs) == ["c", "a", "b"]


def test_nobody_waits() -> None:
    assert Turns().next([]) is None


def test_who_comes_back_at_once_is_not_next_again() -> None:
    """Four connections of one client, each of which asks again soon after its answer."""
    turns = Turns()
    answers = dict.fromkeys((b"1", b"2", b"3", b"4"), 0)
    jobs = waiting(*(request("a", route) for route in answers))
    away: list[Any] = []
    for _ in range(40):
        one = turns.next(jobs)
        assert one is not None
        jobs.remove(one)
        turns.begin(one)
        answers[one.request.route] += 1
        jobs[:0], away = away, [one]
    assert set(answers.values()) == {10}


def test_no_more_connections_are_remembered_than_some_thousands() -> None:
    turns = Turns()
    for number in range(turns_module.REMEMBERED + 100):
        (one,) = waiting(request("a", str(number).encode()))
        turns.begin(one)
    assert len(turns._connections) == turns_module.REMEMBERED


def test_a_share_of_the_queue_counts_requests_and_bytes() -> None:
    limits = LimitConfig(waiting=3, message_megabytes=2)
    others = [request("b", size=MEGABYTE) for _ in range(10)]
    check_share(request("a"), [*others, request("a"), request("a")], limits)
    with pytest.raises(BusyError, match="3 requests of client a wait already"):
        check_share(request("a"), [request("a")] * 3, limits)
    check_share(request("a", size=5 * MEGABYTE), others, limits)
    with pytest.raises(BusyError, match="have 3 MB"):
        check_share(request("a", size=2 * MEGABYTE), [request("a", size=MEGABYTE)], limits)


class Wire:
    """A link that records what it sends."""

    def __init__(self, party: int) -> None:
        self.party = party
        self.peers = frozenset({0, 1, 2} - {party})
        self.sent: list[tuple[int, Any]] = []
        self.aborted: list[bytes] = []

    def send_control(self, peer: int, message: Any) -> None:
        self.sent.append((peer, message))

    def poll_control(self, timeout: float) -> None:
        return None

    def abort(self, session: bytes, message: str) -> None:
        self.aborted.append(session)


class Port:
    def __init__(self) -> None:
        self.failures: list[Any] = []

    def fail(self, request: Request, error: Any) -> bool:
        self.failures.append(error)
        return True


def job(number: int, client: str = "a", shapes: Any = ()) -> Job:
    asked: Any = SimpleNamespace(plan_digest="aa" * 32, shapes=dict(shapes))
    return Job(request(client, number=number), asked)


def attended(party: Any, clock: SimpleNamespace, seconds: float, problems: Any = ()) -> None:
    """Time passes in small steps, and the server looks at each."""
    for _ in range(int(seconds * 4)):
        clock.time += 0.25
        party.turn(dict(problems))


@pytest.mark.parametrize(
    ("kind", "party", "where"), [(Leader, 0, "server 1 and server 2"), (Follower, 1, "server 0")]
)
def test_half_a_request_is_given_up_soon(kind: Any, party: int, where: str, clock: SimpleNamespace) -> None:
    port = Port()
    made = kind(Wire(party), port, TimeoutConfig(arrival=3.0))
    made.add(job(1))
    attended(made, clock, 2.5)
    assert not port.failures
    attended(made, clock, 1.0)
    (failure,) = port.failures
    assert isinstance(failure, RequestTimeoutError)
    assert failure.message == f"the request reached server {party} but not {where}"
    assert "arrival" in failure.hint
    assert not made.jobs


def test_time_in_which_a_server_computes_does_not_count(clock: SimpleNamespace) -> None:
    port = Port()
    made: Any = Leader(Wire(0), port, TimeoutConfig(arrival=3.0))  # type: ignore[arg-type]
    made.add(job(1))
    for _ in range(4):
        clock.time += 60
        made.turn({})
    assert not port.failures


def test_time_in_which_a_peer_is_away_does_not_count(clock: SimpleNamespace) -> None:
    port = Port()
    made: Any = Leader(Wire(0), port, TimeoutConfig(arrival=3.0, connect=60.0))  # type: ignore[arg-type]
    made.add(job(1))
    attended(made, clock, 10, {1: RequestTimeoutError("away")}.items())
    assert not port.failures
    attended(made, clock, 2.5)
    assert not port.failures
    attended(made, clock, 1)
    assert port.failures


def test_a_large_request_has_more_time_to_travel(clock: SimpleNamespace) -> None:
    port = Port()
    made: Any = Leader(Wire(0), port, TimeoutConfig(arrival=3.0))  # type: ignore[arg-type]
    made.add(job(1, shapes={"x": (1000, 1000)}.items()))
    attended(made, clock, 15)
    assert not port.failures
    attended(made, clock, 6)
    assert port.failures


def test_nothing_begins_while_a_request_runs_but_the_next_is_agreed_upon(clock: SimpleNamespace) -> None:
    wire = Wire(0)
    made: Any = Leader(wire, Port(), TimeoutConfig())  # type: ignore[arg-type]
    one = job(1)
    made.add(one)
    assert made.turn({}, begin=False) is None
    assert [type(message).__name__ for _, message in wire.sent] == ["Start", "Start"]
    for peer in (1, 2):
        made.take(peer, wire_pb2.Ready(session=one.session, coins=[bytes([peer]) * PART_BYTES]))
    assert made.turn({}, begin=False) is None
    assert made.turn({}).jobs == [one]
