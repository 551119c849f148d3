"""The ways between machines: names that resolve slowly, elsewhere or not at all; cuts; timely fresh keys."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from onnxpuma.errors import ConfigError, LockstepError, PeerLostError
from onnxpuma.transport import names, wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.line import Peer
from onnxpuma.transport.link import Tag
from onnxpuma.transport.names import Route
from onnxpuma.transport.zeromq import PeerLink
from tests.proxy import Proxy, port_of

pytestmark = pytest.mark.timeout(60)

OpenLink = Callable[..., PeerLink]
Places = dict[str, list[str]]


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Where names lead in this test: one with an empty list is never answered, one not listed is unknown."""
    places: Places = {}
    real, released = socket.getaddrinfo, threading.Event()

    def look_up(host: str, port: Any, *rest: Any, **more: Any) -> Any:
        if not host.endswith(".test"):
            return real(host, port, *rest, **more)
        found = places.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not found:
            released.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(names, "RETRY_SECONDS", 0.2)
    yield places
    released.set()


def exchange(one: PeerLink, other: PeerLink) -> None:
    """One round between two links of this process."""
    tag = Tag(os.urandom(16), 0, 0, "exchange")
    one.send(other.party, tag, [b"there"])
    assert bytes(other.receive(one.party, tag)[0]) == b"there"
    other.send(one.party, tag, [b"and back"])
    assert bytes(one.receive(other.party, tag)[0]) == b"and back"


def talk(one: PeerLink, other: PeerLink) -> None:
    """One message each way, of the kind that needs no third party."""
    for sender, receiver in ((one, other), (other, one)):
        message = wire_pb2.Ready(session=os.urandom(16))
        sender.send_control(receiver.party, message)
        assert receiver.poll_control(2.0) == (sender.party, message)


def together(links: list[PeerLink], seconds: float = 10.0) -> float:
    """Drive links until they are connected; return how long it took."""
    start = time.monotonic()
    while [link for link in links if link.connected != link.peers]:  # a list, so that every link is driven
        assert time.monotonic() < start + seconds, "the links did not connect"
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.mark.parametrize(
    "address",
    ["", "tcp://", "host:1", "tcp://host", "tcp://host:0", "tcp://host:70000", "tcp://a b:1", "tcp://a/b:1"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="is not an address to connect to"):
        Route(address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:7000", "tcp://[::1]:7000"])
def test_numbers_are_not_looked_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("it was looked up"))
    assert Route(address).endpoints == (address,)


def test_a_name_server_that_does_not_answer_holds_up_no_other_link(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], name_server: Places
) -> None:
    name_server["slow.test"] = []
    peers = {
        1: Peer(addresses[1], keys[1].public),
        2: Peer(f"tcp://slow.test:{port_of(addresses[2])}", keys[2].public),
    }
    start = time.monotonic()
    first = open_link(0, peers=peers)
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    while [1 in first.connected, 0 in second.connected] != [True, True]:
        assert time.monotonic() < start + 3
        time.sleep(0.01)
    for _ in range(20):
        talk(first, second)
    assert time.monotonic() - start < 5
    with pytest.raises(PeerLostError, match=r"party 2 is not found: .*slow\.test"):
        first.connect(0.3)


def test_a_healthy_link_comes_back_while_another_name_is_not_answered(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], name_server: Places, proxy: Any
) -> None:
    name_server["slow.test"] = []
    way = proxy(addresses[1])
    first = open_link(
        0,
        peers={
            1: Peer(way.address, keys[1].public),
            2: Peer(f"tcp://slow.test:{port_of(addresses[2])}", keys[2].public),
        },
    )
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    for _ in range(2):
        start = time.monotonic()
        while [1 in first.connected, 0 in second.connected] != [True, True]:
            assert time.monotonic() < start + 5
            time.sleep(0.01)
        talk(first, second)
        way.cut()
        while 1 in first.connected:
            time.sleep(0.01)
        way.mend()


def test_a_name_that_leads_elsewhere_is_followed(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], name_server: Places
) -> None:
    """The name leads to an address where nobody listens, and then to the right one."""
    name_server["peer.test"] = ["127.0.0.9"]
    first = open_link(0, peers={1: Peer(f"tcp://peer.test:{port_of(addresses[1])}", keys[1].public)})
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    with pytest.raises(PeerLostError, match="party 1 does not answer"):
        first.connect(0.5)
    name_server["peer.test"] = ["127.0.0.1"]
    together([first, second], 5)
    exchange(first, second)


def test_of_several_addresses_one_that_answers_is_found(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], name_server: Places
) -> None:
    name_server["peer.test"] = ["127.0.0.9", "127.0.0.1"]
    first = open_link(0, peers={1: Peer(f"tcp://peer.test:{port_of(addresses[1])}", keys[1].public)})
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    together([first, second], 8)
    exchange(first, second)


def test_a_client_is_told_which_name_is_not_known(name_server: Places, keys: list[KeyPair]) -> None:
    name_server["slow.test"] = []
    places = [
        Peer("tcp://nobody.test:7100", keys[0].public),
        Peer("tcp://slow.test:7100", keys[1].public),
        Peer("tcp://127.0.0.1:9", keys[2].public),
    ]
    start = time.monotonic()
    with Cluster(places, generate()) as cluster, pytest.raises(PeerLostError) as caught:
        cluster.connect(0.8)
    assert time.monotonic() - start < 3
    assert "the name nobody.test is not known" in caught.value.message
    assert "slow.test" in caught.value.message


def test_a_server_tells_which_name_is_not_known(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], name_server: Places
) -> None:
    nobody = Peer("tcp://nobody.test:7000", keys[1].public)
    link = open_link(0, peers={1: nobody, 2: Peer(addresses[2], keys[2].public)})
    deadline = time.monotonic() + 5
    while "the name nobody.test is not known" not in link.unresolved(1) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "the name nobody.test is not known" in link.unresolved(1)
    assert not link.unresolved(2)


@pytest.fixture
def proxy() -> Iterator[Callable[[str], Proxy]]:
    made: list[Proxy] = []

    def make(target: str) -> Proxy:
        made.append(Proxy(target))
        return made[-1]

    yield make
    for one in made:
        one.cut()


def test_a_link_is_back_soon_after_a_cut(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], proxy: Callable[[str], Proxy]
) -> None:
    ways = [proxy(addresses[0]), proxy(addresses[1])]
    first = open_link(0, peers={1: Peer(ways[1].address, keys[1].public)}, heartbeat=2.0)
    second = open_link(1, peers={0: Peer(ways[0].address, keys[0].public)}, heartbeat=2.0)
    together([first, second])
    exchange(first, second)
    for way in ways:
        way.cut()
    time.sleep(1.5)
    for way in ways:
        way.mend()
    assert together([first, second]) < 5
    exchange(first, second)


def test_a_link_is_back_soon_after_packets_were_swallowed(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], proxy: Callable[[str], Proxy]
) -> None:
    way = proxy(addresses[1])
    first = open_link(0, peers={1: Peer(way.address, keys[1].public)}, heartbeat=1.0)
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)}, heartbeat=1.0)
    together([first, second])
    way.swallows = True
    start = time.monotonic()
    while 1 in first.connected:
        assert time.monotonic() < start + 4, "the loss was not noticed"
        time.sleep(0.02)
    time.sleep(1.0)
    way.swallows = False
    assert together([first, second]) < 5
    exchange(first, second)


def full_listener(port: int) -> list[socket.socket]:
    """A port at which the kernel drops every attempt to connect: nobody accepts, and the backlog is full."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    time.sleep(0.1)
    return [listener, *fillers]


def test_every_attempt_to_connect_ends_soon(open_link: OpenLink, keys: list[KeyPair]) -> None:
    link = open_link(0)
    for line in link._lines.values():
        assert line._out.socket.getsockopt(zmq.CONNECT_TIMEOUT) == 2000
    with Cluster([Peer("tcp://127.0.0.1:9", keys[0].public)], generate()) as cluster:
        assert cluster._servers[0].out.socket.getsockopt(zmq.CONNECT_TIMEOUT) == 2000


@pytest.mark.slow
def test_a_link_is_back_soon_after_a_long_time_without_any_answer(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str]
) -> None:
    """The kernel alone would retry after 1, 3, 7 and 15 seconds."""
    nobody = full_listener(port_of(addresses[1]))
    first = open_link(0, peers={1: Peer(addresses[1], keys[1].public)})
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        assert not first.connected
        time.sleep(0.1)
    for end in nobody:
        end.close()
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    assert together([first, second]) < 5


def test_connections_between_servers_are_renewed_when_they_are_quiet(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], proxy: Callable[[str], Proxy]
) -> None:
    way = proxy(addresses[1])
    first = open_link(0, peers={1: Peer(way.address, keys[1].public)})
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    together([first, second])
    exchange(first, second)
    made = way.made
    start = time.monotonic()
    while way.made < made + 2:
        assert time.monotonic() < start + 15, "the connection was not renewed twice"
        assert first.connected == {1}, "it is there all the time"
        assert second.connected == {0}
        first.renew(0.3)
        time.sleep(0.05)
    exchange(first, second)
    exchange(second, first)


@pytest.mark.slow
def test_a_session_is_not_disturbed_by_a_renewal(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str], proxy: Callable[[str], Proxy]
) -> None:
    """Words are sent all the time, so there is no quiet moment and the connection stays the same."""
    way = proxy(addresses[1])
    first = open_link(0, peers={1: Peer(way.address, keys[1].public)})
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    together([first, second])
    old = first._lines[1]._out
    session = os.urandom(16)
    wants_rest = False
    deadline = time.monotonic() + 4
    number = 0
    while time.monotonic() < deadline:
        tag = Tag(session, 0, number, "words")
        first.send(1, tag, [bytes(1000)])
        try:
            second.receive(0, tag)
        except LockstepError:  # pragma: no cover
            pytest.fail("words overtook others")
        wants_rest |= first.renew(0.5)
        number += 1
    assert first._lines[1]._out is old
    assert wants_rest, "it asks for a quiet moment"
    time.sleep(1.1)
    while first._lines[1]._out is old:
        first.renew(0.5)
        time.sleep(0.02)
    exchange(first, second)


class Answering:
    """Three client ports of this process that answer every request with an empty result."""

    def __init__(self, keys: list[KeyPair], addresses: list[str], client: KeyPair) -> None:
        self.ports = [
            ClientPort(pair, address, {client.public: "client"}, wire_pb2.Status(), heartbeat=5.0)
            for pair, address in zip(keys, addresses, strict=True)
        ]
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.stopped.is_set():
            for port in self.ports:
                request = port.poll(0.01)
                if request is not None:
                    port.reply(request, wire_pb2.Result())

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(5)
        for port in self.ports:
            port.close()


def test_a_client_renews_its_connections_between_two_requests(
    keys: list[KeyPair], addresses: list[str], proxy: Callable[[str], Proxy]
) -> None:
    client = generate()
    answering = Answering(keys, addresses, client)
    ways = [proxy(address) for address in addresses]
    places = [Peer(way.address, pair.public) for way, pair in zip(ways, keys, strict=True)]
    try:
        with Cluster(places, client, renew=0.4) as cluster:
            for _ in range(3):
                assert len(cluster.request(wire_pb2.Request(), [], [[], [], []])) == 3
            assert [way.made for way in ways] == [1, 1, 1]
            time.sleep(0.5)
            assert len(cluster.request(wire_pb2.Request(), [], [[], [], []])) == 3
            assert [way.made for way in ways] == [2, 2, 2]
    finally:
        answering.stop()
