"""Requests that end early: servers and clients that leave, damaged messages, and what remains afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from threading import Thread

import pytest
import zmq

from onnxpuma.errors import (
    InputError,
    OnnxpumaError,
    PeerLostError,
    RequestTimeoutError,
    TransportError,
)
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.zeromq import Peer
from tests.transport.ports import Server, ask, begin, hold, wait_until

pytestmark = pytest.mark.timeout(60)


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
    servers = start_servers(begin)
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
