"""Requests from clients: three results, errors in their own class, clients and servers that go away."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import zmq

from onnxpuma.errors import (
    AuthenticationError,
    ConfigError,
    InputError,
    OnnxpumaError,
    PeerLostError,
    RemoteError,
    RequestTimeoutError,
    TransportError,
)
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.zeromq import Peer

pytestmark = pytest.mark.timeout(60)

Handler = Callable[[int, ClientPort, Request], None]


def add_one(party: int, port: ClientPort, request: Request) -> None:
    """Answers with the first private buffer, one added to each word."""
    words = np.frombuffer(request.private[0], np.uint64) + np.uint64(1)
    port.reply(request, wire_pb2.Accepted(session=b"s" * 16))
    port.reply(request, wire_pb2.Progress(step=1, steps=1, label="Add"))
    outputs = [wire_pb2.Array(name="y", dtype="float32", shape=[len(words)], buffers=1)]
    port.reply(request, wire_pb2.Result(outputs=outputs, rounds=party), [words])


class Server(Thread):
    """A ClientPort in a thread; requests go to `handle`."""

    def __init__(
        self, party: int, keys: KeyPair, address: str, clients: dict[str, str], handle: Handler
    ) -> None:
        super().__init__(daemon=True)
        status = wire_pb2.Status(version="1.2", party=party, state="idle", model_digest=b"digest")
        self.party, self.handle = party, handle
        self.port = ClientPort(keys, address, clients, status, heartbeat=5.0)
        self.seen: list[Request] = []
        self.stopped = Event()
        self.start()

    def run(self) -> None:
        while not self.stopped.is_set():
            request = self.port.poll(0.05)
            if request is not None:
                self.seen.append(request)
                try:
                    self.handle(self.party, self.port, request)
                except OnnxpumaError as error:
                    self.port.fail(request, error)
        self.port.close()

    def stop(self) -> None:
        self.stopped.set()
        self.join(5)


@pytest.fixture
def client() -> KeyPair:
    return generate()


@pytest.fixture
def places(keys: list[KeyPair], addresses: list[str]) -> list[Peer]:
    return [Peer(address, pair.public) for address, pair in zip(addresses, keys, strict=True)]


@pytest.fixture
def start_servers(
    keys: list[KeyPair], addresses: list[str], client: KeyPair
) -> Iterator[Callable[..., list[Server]]]:
    """Starts servers 0, 1, 2 (or those named) that let `client` and the clients in `more` in."""
    started: list[Server] = []

    def start(
        handle: Handler = add_one, parties: tuple[int, ...] = (0, 1, 2), more: tuple[KeyPair, ...] = ()
    ) -> list[Server]:
        known = {client.public: "ward", **{pair.public: f"more {i}" for i, pair in enumerate(more)}}
        new = [Server(i, keys[i], addresses[i], known, handle) for i in parties]
        started.extend(new)
        return new

    yield start
    for server in started:
        server.stop()


def ask(cluster: Cluster, value: int = 0, **options: Any) -> list[int]:
    """One request with a different private word for each server; the words that come back."""
    body = wire_pb2.Request(model_digest=b"digest", version="1.2")
    private = [[np.array([value + party], np.uint64)] for party in range(3)]
    answers = cluster.request(body, [np.arange(3)], private, **options)
    return [int(np.frombuffer(answer.buffers[0], np.uint64)[0]) for answer in answers]


def test_each_server_gets_its_own_shares(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers()
    told: list[tuple[int, str]] = []
    with Cluster(places, client) as cluster:
        assert ask(cluster, 10, timeout=5, news=lambda i, news: told.append((i, type(news).__name__))) == [
            11,
            12,
            13,
        ]
        assert ask(cluster, 20, timeout=5) == [21, 22, 23]
    assert sorted(told) == [(i, kind) for i in range(3) for kind in ("Accepted", "Progress")]
    for server in servers:
        request = server.seen[0]
        assert request.client == "ward"
        assert len(request.id) == 16
        assert np.array_equal(np.frombuffer(request.public[0], np.int64), np.arange(3))
        assert len(request.private) == 1
    assert len({server.seen[0].digest() for server in servers}) == 1
    assert servers[0].seen[0].digest() != servers[0].seen[1].digest()


def test_large_buffers(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    start_servers()
    words = np.arange(1_000_000, dtype=np.uint64)
    with Cluster(places, client) as cluster:
        answers = cluster.request(wire_pb2.Request(), [], [[words]] * 3, timeout=50)
    for party, answer in enumerate(answers):
        assert np.array_equal(np.frombuffer(answer.buffers[0], np.uint64), words + 1)
        assert answer.result.rounds == party
        assert answer.result.outputs[0].name == "y"


def test_an_error_comes_back_in_its_class(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    def refuse(party: int, port: ClientPort, request: Request) -> None:
        if party == 1:
            time.sleep(0.2)
            raise InputError("input 'x' has 3 dimensions", "give it 2")
        raise RemoteError("stopped by party 1")

    start_servers(refuse)
    with Cluster(places, client) as cluster, pytest.raises(InputError) as caught:
        ask(cluster, timeout=5)
    assert caught.value.message == "input 'x' has 3 dimensions"
    assert caught.value.hint == "give it 2"


def test_an_internal_error_tells_no_data(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    def crash(party: int, port: ClientPort, request: Request) -> None:
        port.fail(request, ValueError("secret 42"))

    start_servers(crash)
    with Cluster(places, client) as cluster, pytest.raises(RemoteError) as caught:
        ask(cluster, timeout=5)
    assert "ValueError" in str(caught.value)
    assert "42" not in str(caught.value)


def test_an_unknown_error_class_is_a_remote_error(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    def fail(party: int, port: ClientPort, request: Request) -> None:
        port.reply(request, wire_pb2.Failure(error="annotations", message="odd", hint="none"))

    start_servers(fail)
    with (
        Cluster(places, client) as cluster,
        pytest.raises(RemoteError, match=r"server [012]: odd"),
    ):
        ask(cluster, timeout=5)


def test_a_server_that_is_not_there_is_named(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    start_servers(parties=(0, 2))
    start = time.monotonic()
    with Cluster(places, client, connect_timeout=0.5) as cluster, pytest.raises(PeerLostError) as caught:
        ask(cluster)
    assert time.monotonic() - start < 2
    assert f"server 1 ({places[1].address})" in caught.value.message
    assert "server 0" not in caught.value.message


def test_a_client_that_is_not_on_the_list(
    start_servers: Callable[..., list[Server]], places: list[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    start_servers()
    stranger = generate()
    start = time.monotonic()
    with (
        caplog.at_level(logging.WARNING, "onnxpuma.transport"),
        Cluster(places, stranger) as cluster,
        pytest.raises(AuthenticationError, match="refuses this client's public key") as caught,
    ):
        ask(cluster)
    assert stranger.public in str(caught.value)
    assert time.monotonic() - start < 3
    assert any(stranger.public in record.message for record in caplog.records)


def test_a_server_with_another_key(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    start_servers()
    places[2] = Peer(places[2].address, generate().public)
    start = time.monotonic()
    with (
        Cluster(places, client) as cluster,
        pytest.raises(AuthenticationError, match=r"server 2.*is not the owner"),
    ):
        ask(cluster)
    assert time.monotonic() - start < 5


def test_two_clients_get_their_own_answers(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    other = generate()
    servers = start_servers(more=(other,))
    results: dict[int, list[list[int]]] = {}

    def work(base: int, keys: KeyPair) -> None:
        with Cluster(places, keys) as cluster:
            results[base] = [ask(cluster, base + i, timeout=10) for i in range(10)]

    threads = [Thread(target=work, args=(100, client)), Thread(target=work, args=(200, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for base in (100, 200):
        assert results[base] == [[base + i + 1, base + i + 2, base + i + 3] for i in range(10)]
    assert {request.client for request in servers[0].seen} == {"ward", "more 0"}


def hold(party: int, port: ClientPort, request: Request) -> None:
    """Keeps the request open."""


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_timeout_cancels_the_request(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers(hold)
    with Cluster(places, client) as cluster:
        with pytest.raises(RequestTimeoutError, match="no result from server 0, 1, 2"):
            ask(cluster, timeout=0.3)
        wait_until(lambda: all(server.seen[0].gone for server in servers))
        assert not servers[0].port.reply(servers[0].seen[0], wire_pb2.Result())


def test_a_client_that_is_killed_is_noticed(
    start_servers: Callable[..., list[Server]],
    places: list[Peer],
    client: KeyPair,
    child_environment: dict[str, str],
) -> None:
    servers = start_servers(hold)
    script = (
        "import sys; from onnxpuma.transport import wire_pb2; from onnxpuma.transport.curve import KeyPair;"
        "from onnxpuma.transport.cluster import Cluster; from onnxpuma.transport.zeromq import Peer;"
        "a = sys.argv[1:]; places = [Peer(a[i], a[i + 1]) for i in (2, 4, 6)];"
        "Cluster(places, KeyPair(a[0], a[1])).request(wire_pb2.Request(), [], [[b'x']] * 3)"
    )
    words = [
        client.public,
        client.secret,
        *(word for place in places for word in (place.address, place.public_key)),
    ]
    process = subprocess.Popen([sys.executable, "-c", script, *words], env=child_environment)
    try:
        wait_until(lambda: all(server.seen for server in servers), 20)
        assert not servers[0].seen[0].gone
        process.kill()
        wait_until(lambda: all(server.seen[0].gone for server in servers), 2)
    finally:
        process.kill()
        process.wait()


def test_a_request_whose_client_left_is_never_handed_out(
    keys: list[KeyPair], addresses: list[str], client: KeyPair
) -> None:
    with ClientPort(keys[0], addresses[0], {client.public: "ward"}, wire_pb2.Status()) as port:
        with (
            Cluster([Peer(addresses[0], keys[0].public)], client) as cluster,
            pytest.raises(RequestTimeoutError),
        ):
            cluster.request(wire_pb2.Request(), [], [[b"x"]], timeout=0.2)
        assert port.poll(0.3) is None


def test_a_server_that_goes_away_ends_the_request(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers(hold)
    raised: list[OnnxpumaError] = []

    def work() -> None:
        with Cluster(places, client) as cluster:
            try:
                ask(cluster, timeout=20)
            except OnnxpumaError as error:
                raised.append(error)

    thread = Thread(target=work)
    thread.start()
    wait_until(lambda: all(server.seen for server in servers))
    start = time.monotonic()
    servers[1].stop()
    thread.join(5)
    assert time.monotonic() - start < 3
    assert isinstance(raised[0], PeerLostError)
    assert "server 1" in raised[0].message


def test_a_server_that_came_back_serves_the_same_cluster(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers()
    with Cluster(places, client) as cluster:
        assert ask(cluster, timeout=5) == [1, 2, 3]
        servers[1].stop()
        wait_until(lambda: isinstance(cluster.status(0.2)[1], PeerLostError))
        start_servers(parties=(1,))
        assert ask(cluster, timeout=5) == [1, 2, 3]


def test_status(start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair) -> None:
    start_servers(parties=(0, 2))
    with Cluster(places, client) as cluster:
        first, second, third = cluster.status(1.0)
    for party, status in ((0, first), (2, third)):
        assert isinstance(status, wire_pb2.Status)
        assert (status.version, status.party, status.state) == ("1.2", party, "idle")
        assert status.model_digest == b"digest"
        assert status.uptime_seconds > 0
    assert isinstance(second, PeerLostError)


def test_status_while_a_request_runs(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    other = generate()
    servers = start_servers(hold, more=(other,))

    def work() -> None:
        with Cluster(places, client) as cluster, suppress(RequestTimeoutError):
            ask(cluster, timeout=1)

    thread = Thread(target=work)
    thread.start()
    wait_until(lambda: all(server.seen for server in servers))
    with Cluster(places, other) as cluster:
        assert all(isinstance(status, wire_pb2.Status) for status in cluster.status(2.0))
    assert not any(server.seen[0].gone for server in servers)
    thread.join()


def raw_client(place: Peer, client: KeyPair) -> zmq.Socket[bytes]:
    raw = zmq.Context.instance().socket(zmq.DEALER)
    raw.linger = 0
    raw.rcvtimeo = 5000
    raw.curve_publickey, raw.curve_secretkey = client.public.encode(), client.secret.encode()
    raw.curve_serverkey = place.public_key.encode()
    raw.connect(place.address)
    return raw


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xff" * 30],
        [wire_pb2.ClientMessage(sizes=[0]).SerializeToString()],
        [wire_pb2.ClientMessage(request=wire_pb2.Request(id=b"short")).SerializeToString()],
        [wire_pb2.ClientMessage(request=wire_pb2.Request(id=b"x" * 16), sizes=[4]).SerializeToString()],
        [
            wire_pb2.ClientMessage(
                request=wire_pb2.Request(id=b"x" * 16, public_buffers=2)
            ).SerializeToString()
        ],
    ],
    ids=["no protobuf", "of no kind", "short id", "missing buffer", "fewer buffers than public ones"],
)
def test_damaged_requests_are_answered_and_forgotten(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair, frames: list[bytes]
) -> None:
    servers = start_servers()
    raw = raw_client(places[0], client)
    raw.send_multipart(frames)
    answer = wire_pb2.ServerMessage.FromString(raw.recv())
    assert answer.failure.error == TransportError.__name__
    raw.close()
    assert not servers[0].seen
    with Cluster(places, client) as cluster:
        assert ask(cluster, timeout=5) == [1, 2, 3]


def test_a_request_id_in_use_is_refused(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers(hold)
    raw = raw_client(places[0], client)
    frame = wire_pb2.ClientMessage(request=wire_pb2.Request(id=b"x" * 16)).SerializeToString()
    raw.send(frame)
    raw.send(frame)
    assert wire_pb2.ServerMessage.FromString(raw.recv()).failure.error == InputError.__name__
    wait_until(lambda: bool(servers[0].seen))
    raw.close()
    time.sleep(0.2)
    assert len(servers[0].seen) == 1


def test_nobody_cancels_the_request_of_another(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    other = generate()
    servers = start_servers(hold, more=(other,))
    mine, theirs = raw_client(places[0], client), raw_client(places[0], other)
    name = os.urandom(16)
    mine.send(wire_pb2.ClientMessage(request=wire_pb2.Request(id=name)).SerializeToString())
    wait_until(lambda: bool(servers[0].seen))
    theirs.send(wire_pb2.ClientMessage(cancel=wire_pb2.Cancel(request=name)).SerializeToString())
    theirs.send(wire_pb2.ClientMessage(status=wire_pb2.StatusQuery(tag=b"t")).SerializeToString())
    assert wire_pb2.ServerMessage.FromString(theirs.recv()).request == b"t"
    assert not servers[0].seen[0].gone
    mine.send(wire_pb2.ClientMessage(cancel=wire_pb2.Cancel(request=name)).SerializeToString())
    wait_until(lambda: servers[0].seen[0].gone)
    mine.close()
    theirs.close()


def test_a_port_scan_does_not_disturb(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers(hold)
    mine = raw_client(places[0], client)
    mine.send(wire_pb2.ClientMessage(request=wire_pb2.Request(id=b"x" * 16)).SerializeToString())
    wait_until(lambda: bool(servers[0].seen))
    host, number = places[0].address.removeprefix("tcp://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(number))) as scan:
            scan.sendall(b"GET / HTTP/1.0\r\n\r\n")
    time.sleep(0.3)
    assert not servers[0].seen[0].gone
    mine.close()


def test_port_in_use(keys: list[KeyPair], addresses: list[str]) -> None:
    with (
        ClientPort(keys[0], addresses[0], {}, wire_pb2.Status()),
        pytest.raises(ConfigError, match=f"{addresses[0]} is in use"),
    ):
        ClientPort(keys[0], addresses[0], {}, wire_pb2.Status())


def test_private_buffers_for_every_server(places: list[Peer], client: KeyPair) -> None:
    with Cluster(places, client) as cluster, pytest.raises(InputError, match="for 2 servers"):
        cluster.request(wire_pb2.Request(), [], [[b""], [b""]])
