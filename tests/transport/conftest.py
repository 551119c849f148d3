"""Links and keys for the tests of this room; everything opened here is closed again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.link import Link
from onnxpuma.transport.memory import memory_links
from onnxpuma.transport.zeromq import Peer, PeerLink
from tests.transport.ports import Handler, Server, add_one


@pytest.fixture
def keys() -> list[KeyPair]:
    return [generate() for _ in range(3)]


@pytest.fixture
def addresses() -> list[str]:
    """Three addresses at which nobody listens."""
    holders = [socket.socket() for _ in range(3)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    found = [f"tcp://127.0.0.1:{holder.getsockname()[1]}" for holder in holders]
    for holder in holders:
        holder.close()
    return found


OpenLink = Callable[..., PeerLink]


@pytest.fixture
def open_link(keys: list[KeyPair], addresses: list[str]) -> Iterator[OpenLink]:
    """Opens one party's link: `open_link(party, **settings of PeerLink)`; `peers` may be replaced."""
    opened: list[PeerLink] = []

    def open_one(party: int, **settings: Any) -> PeerLink:
        pair = settings.pop("keys", keys[party])
        everybody = {i: Peer(addresses[i], keys[i].public) for i in range(3) if i != party}
        peers = settings.pop("peers", everybody)
        settings = {"timeout": 5.0, "linger": 0.5, **settings}
        opened.append(PeerLink(party, pair, addresses[party], peers, **settings))
        return opened[-1]

    yield open_one
    for link in opened:
        link.close()


@pytest.fixture
def open_cluster(open_link: OpenLink) -> Callable[..., list[PeerLink]]:
    """Opens and connects the links of all three parties in this process."""

    def open_all(**settings: Any) -> list[PeerLink]:
        links = [open_link(party, **settings) for party in range(3)]
        meet(links)
        return links

    return open_all


def meet(links: list[PeerLink], done: Callable[[], bool] = lambda: True) -> None:
    """Drive the links of this process until each is connected to its peers and `done` returns True."""
    deadline = time.monotonic() + 10
    while [link for link in links if link.connected != link.peers] or not done():
        assert time.monotonic() < deadline, "the links did not connect"
        time.sleep(0.01)


@pytest.fixture(params=["memory", "zeromq"])
def links(request: pytest.FixtureRequest) -> Iterator[tuple[Link, ...]]:
    """Three connected links, of each kind in turn."""
    if request.param == "memory":
        opened: tuple[Link, ...] = memory_links(timeout=20.0)
    else:
        opened = tuple(request.getfixturevalue("open_cluster")(timeout=20.0))
    yield opened
    for link in opened:
        link.close()


@pytest.fixture(name="meet")
def give_meet() -> Callable[..., None]:
    return meet


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
    """Starts servers 0, 1, 2 (or those named), which admit `client` and the clients in `more`."""
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


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """An environment in which a new process imports the same package as this one."""
    import onnxpuma

    root = Path(onnxpuma.__file__).parent.parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
