"""A client that works while it waits: it takes its answer, its error and its end as soon as they come."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from threading import Event, Timer

import pytest

from onnxpuma.errors import PeerLostError, RequestTimeoutError
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.zeromq import Peer
from tests.transport.ports import Server, add_one, ask, hold

pytestmark = pytest.mark.timeout(60)


class Work:
    """Work without end, which looks up as it is asked to."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, until: Callable[[], bool]) -> None:
        while not until():
            self.looks += 1
            time.sleep(1e-4)


def test_an_answer_is_taken_when_it_comes(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    def late(party: int, port: ClientPort, request: Request) -> None:
        time.sleep(0.05 * (1 + party))
        add_one(party, port, request)

    start_servers(late)
    work = Work()
    with Cluster(places, client) as cluster:
        cluster.meanwhile = work
        assert ask(cluster, 10, timeout=20) == [11, 12, 13]
    assert work.looks > 0


def test_the_time_for_an_answer_ends(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    start_servers(hold)
    with Cluster(places, client) as cluster:
        cluster.meanwhile = Work()
        with pytest.raises(RequestTimeoutError, match=r"within 0\.3 s"):
            ask(cluster, timeout=0.3)


def test_a_server_that_dies_is_noticed(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    servers = start_servers(hold)
    late = Timer(0.2, servers[1].stop)
    with Cluster(places, client, connect_timeout=0.5, drain=0.0) as cluster:
        cluster.meanwhile = Work()
        cluster.connect()
        late.start()
        with pytest.raises(PeerLostError, match="server 1"):
            ask(cluster, timeout=20)
    late.join()


def test_another_thread_ends_it(
    start_servers: Callable[..., list[Server]], places: list[Peer], client: KeyPair
) -> None:
    start_servers(hold)
    halt = Event()
    late = Timer(0.2, halt.set)
    with Cluster(places, client, halt=halt) as cluster:
        cluster.meanwhile = Work()
        cluster.connect()
        late.start()
        with pytest.raises(CancelledError):
            ask(cluster, timeout=20)
    late.join()
