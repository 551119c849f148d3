"""Requests from clients: three results, errors in their own class, clients and servers that leave."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import numpy as np
import pytest

from onnxpuma.errors import (
    AuthenticationError,
    ConfigError,
    InputError,
    PeerLostError,
    RemoteError,
    RequestTimeoutError,
)
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.zeromq import Peer
from tests.transport.ports import Server, ask, hold, wait_until

pytestmark = pytest.mark.timeout(60)


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


def test_port_in_use(keys: list[KeyPair], addresses: list[str]) -> None:
    with (
        ClientPort(keys[0], addresses[0], {}, wire_pb2.Status()),
        pytest.raises(ConfigError, match=f"{addresses[0]} is in use"),
    ):
        ClientPort(keys[0], addresses[0], {}, wire_pb2.Status())


def test_private_buffers_for_every_server(places: list[Peer], client: KeyPair) -> None:
    with Cluster(places, client) as cluster, pytest.raises(InputError, match="for 2 servers"):
        cluster.request(wire_pb2.Request(), [], [[b""], [b""]])
