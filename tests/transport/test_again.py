"""Which requests a client sends again: those that no server had begun."""

from __future__ import annotations

from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.errors import PeerLostError, StoppingError, TransportError
from onnxpuma.transport import again, wire_pb2
from onnxpuma.transport.again import MOST_BREAKS, Again, Try
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import generate
from onnxpuma.transport.line import Peer

LOST, STOPPING = PeerLostError("gone", "wait"), StoppingError("stopping", "repeat")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(time=100.0, slept=[])

    def sleep(seconds: float) -> None:
        now.slept.append(seconds)
        now.time += seconds

    monkeypatch.setattr(again, "time", SimpleNamespace(monotonic=lambda: now.time, sleep=sleep))
    return now


@pytest.mark.parametrize(
    ("error", "state", "allowed"),
    [
        (STOPPING, Try(), True),
        (STOPPING, Try(begun=True), True),  # three run together: what one has not begun, nobody has finished
        (LOST, Try(broken=True), True),
        (LOST, Try(broken=True, begun=True), False),
        (LOST, Try(), False),  # a server says so of another: asking the same servers again helps nobody
    ],
)
def test_what_had_not_begun_is_sent_again(
    error: TransportError, state: Try, allowed: bool, clock: SimpleNamespace
) -> None:
    assert Again(10.0).allows(error, state) == allowed


def test_pauses_grow_and_the_time_is_limited(clock: SimpleNamespace) -> None:
    tries = Again(10.0)
    while tries.allows(STOPPING, Try()):
        tries.pause()
    assert clock.slept[:3] == [0.1, 0.2, 0.4]
    assert max(clock.slept) == 2.0
    assert sum(clock.slept) <= 10.0


def test_a_request_that_may_itself_end_servers_is_not_sent_for_ever(clock: SimpleNamespace) -> None:
    tries = Again(1000.0)
    assert [tries.allows(LOST, Try(broken=True)) for _ in range(MOST_BREAKS + 1)] == [True] * MOST_BREAKS + [
        False
    ]


class Answering(Thread):
    """A port that refuses the first request as a stopping server does, and answers the later ones."""

    def __init__(self, keys: Any, client: str, refuses: bool) -> None:
        super().__init__(daemon=True)
        self.port = ClientPort(keys, "tcp://127.0.0.1:*", {client: "client"}, wire_pb2.Status())
        self.address = self.port.waits_on()[0].last_endpoint.decode()  # type: ignore[attr-defined]
        self.refuses, self.done, self.seen = refuses, Event(), []  # type: ignore[var-annotated]

    def run(self) -> None:
        while not self.done.is_set():
            request = self.port.poll(0.05)
            if request is None:
                continue
            self.seen.append(request.id)
            if self.refuses and len(self.seen) == 1:
                self.port.fail(request, STOPPING)
            else:
                self.port.reply(request, wire_pb2.Result(rounds=len(self.seen)), request.private)
        self.port.close()


def test_a_request_reaches_the_server_that_follows_one_that_was_stopping() -> None:
    client, keys = generate(), [generate() for _ in range(3)]
    servers = [Answering(pair, client.public, refuses=party == 1) for party, pair in enumerate(keys)]
    for server in servers:
        server.start()
    places = [Peer(s.address, pair.public) for s, pair in zip(servers, keys, strict=True)]
    try:
        with Cluster(places, client) as cluster:
            answers = cluster.request(wire_pb2.Request(), [], [[b"a"], [b"b"], [b"c"]], timeout=20)
        assert [bytes(answer.buffers[0]) for answer in answers] == [b"a", b"b", b"c"]
        assert all(len(server.seen) == 2 for server in servers)
        assert len({request for server in servers for request in server.seen}) == 2, "each time a fresh id"
    finally:
        for server in servers:
            server.done.set()
            server.join(10)
