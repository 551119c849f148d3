"""Servers that die, hang, leave and come back: the others notice within seconds, and take them back."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from onnxpuma.errors import PeerLostError, RequestTimeoutError
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.link import Tag
from onnxpuma.transport.zeromq import Peer, PeerLink

pytestmark = pytest.mark.timeout(60)

OpenLink = Callable[..., PeerLink]


class Child:
    """A party in another process (party_process.py)."""

    def __init__(self, settings: dict[str, object], environment: dict[str, str]) -> None:
        script = str(Path(__file__).with_name("party_process.py"))
        self.process = subprocess.Popen(
            [sys.executable, script, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def has_spoken(self, seconds: float = 0.0) -> bool:
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def says(self) -> str:
        assert self.process.stdout is not None
        assert self.has_spoken(10), "the other process says nothing"
        return self.process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start_child(
    keys: list[KeyPair], addresses: list[str], child_environment: dict[str, str]
) -> Iterator[Callable[..., Child]]:
    """Starts party 2 in another process."""
    started: list[Child] = []

    def start(**options: float) -> Child:
        settings = {
            "party": 2,
            "addresses": addresses,
            "public_keys": [pair.public for pair in keys],
            "secret_key": keys[2].secret,
            "options": options,
        }
        started.append(Child(settings, child_environment))
        return started[-1]

    yield start
    for child in started:
        child.end()


Three = tuple[Child, list[PeerLink]]


@pytest.fixture
def three(open_link: OpenLink, meet: Callable[..., None], start_child: Callable[..., Child]) -> Three:
    """Party 2 in another process, and parties 0 and 1 here, which have met it."""
    child = start_child()
    links = [open_link(0), open_link(1)]
    meet(links, child.has_spoken)
    assert child.says() == "connected"
    return child, links


def exchange(links: list[PeerLink], child: Child) -> None:
    """One round of a new session among all three."""
    session = os.urandom(16)
    tag = Tag(session, 0, 0, "exchange")
    child.tell(f"exchange {session.hex()}")
    for link in links:
        for peer in {0, 1, 2} - {link.party}:
            link.send(peer, tag, [b"words"])
    for link in links:
        for peer in {0, 1, 2} - {link.party}:
            assert bytes(link.receive(peer, tag)[0]) == b"words"
    assert child.says() == "done"


def test_a_killed_party_is_lost_within_two_seconds(three: Three) -> None:
    child, links = three
    exchange(links, child)
    tag = Tag(os.urandom(16), 0, 0, "MatMul")
    raised: list[tuple[float, BaseException]] = []

    def wait_for(link: PeerLink, peer: int) -> None:
        try:
            link.receive(peer, tag)
        except PeerLostError as error:
            raised.append((time.monotonic(), error))

    # Party 0 waits for the one that dies, party 1 for the one that lives.
    threads = [Thread(target=wait_for, args=(links[0], 2)), Thread(target=wait_for, args=(links[1], 0))]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    killed = time.monotonic()
    child.signal(signal.SIGKILL)
    for thread in threads:
        thread.join(5)
    assert len(raised) == 2
    for when, error in raised:
        assert when - killed < 2
        assert "party 2" in str(error)
        assert "died" in str(error)


def test_a_death_during_a_computation_is_seen_afterwards(three: Three) -> None:
    child, links = three
    exchange(links, child)
    tag = Tag(os.urandom(16), 0, 0, "MatMul")
    links[0].send(1, tag, [b"before"])
    links[1].receive(0, tag)
    child.signal(signal.SIGKILL)
    time.sleep(1.5)
    start = time.monotonic()
    with pytest.raises(PeerLostError, match="party 2"):
        links[0].send(2, tag, [b"to the dead"])
    with pytest.raises(PeerLostError, match="party 2"):
        links[1].receive(0, tag)
    assert time.monotonic() - start < 1.5


def test_a_party_that_starts_again_takes_part_in_the_next_session(
    three: Three, start_child: Callable[..., Child], meet: Callable[..., None]
) -> None:
    child, links = three
    exchange(links, child)
    before = links[0].hello[2].instance
    lost = Tag(os.urandom(16), 0, 0, "exchange")
    for link in links:
        link.send(2, lost, [b"for the first process"])
    child.signal(signal.SIGKILL)
    with pytest.raises(PeerLostError):
        links[0].receive(2, lost)
    again = start_child()
    meet(links, again.has_spoken)
    assert again.says() == "connected"
    assert links[0].hello[2].instance != before
    exchange(links, again)
    exchange(links, again)


def test_a_session_does_not_go_on_with_a_new_process(
    three: Three, start_child: Callable[..., Child], meet: Callable[..., None]
) -> None:
    child, links = three
    tag = Tag(os.urandom(16), 0, 0, "exchange")
    links[0].send(2, tag, [b"first"])
    child.signal(signal.SIGKILL)
    again = start_child()
    meet(links, again.has_spoken)
    assert again.says() == "connected"
    with pytest.raises(PeerLostError):
        links[0].send(2, tag, [b"second"])
    for link in links:
        link.abort(tag.session, "the third party died")
    exchange(links, again)


def test_a_break_ends_every_session_under_way_and_none_that_follows(
    three: Three, start_child: Callable[..., Child], meet: Callable[..., None]
) -> None:
    child, links = three
    tags = [Tag(os.urandom(16), 0, 0, "exchange") for _ in range(2)]
    for tag in tags:
        links[0].send(2, tag, [b"lost"])
        links[0].send(1, tag, [b"kept"])
    child.signal(signal.SIGKILL)
    again = start_child()
    meet(links, again.has_spoken)
    assert again.says() == "connected"
    exchange(links, again)  # the connection is as good as new for a session that begins now
    for tag in tags:
        with pytest.raises(PeerLostError, match="party 2"):
            links[0].send(1, tag, [b"more"])
    assert bytes(links[1].receive(0, tags[0])[0]) == b"kept", "party 1 had not begun it before the break"


def test_a_stopped_party_is_lost_by_its_heartbeat(
    open_link: OpenLink, meet: Callable[..., None], start_child: Callable[..., Child]
) -> None:
    child = start_child(heartbeat=1.0)
    links = [open_link(i, heartbeat=1.0, timeout=20.0) for i in (0, 1)]
    meet(links, child.has_spoken)
    assert child.says() == "connected"
    exchange(links, child)
    tag = Tag(os.urandom(16), 0, 0, "MatMul")
    child.signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(PeerLostError, match="party 2"):
        links[0].receive(2, tag)
    with pytest.raises(PeerLostError, match="party 2"):
        links[1].receive(0, tag)
    assert time.monotonic() - start < 4
    child.signal(signal.SIGCONT)
    time.sleep(0.5)
    meet(links)
    exchange(links, child)


def test_a_stopped_party_is_lost_though_words_for_it_are_stuck(
    open_link: OpenLink, meet: Callable[..., None], start_child: Callable[..., Child]
) -> None:
    child = start_child(heartbeat=1.0)
    links = [open_link(i, heartbeat=1.0, timeout=20.0) for i in (0, 1)]
    meet(links, child.has_spoken)
    assert child.says() == "connected"
    tag = Tag(os.urandom(16), 0, 0, "MatMul")
    child.signal(signal.SIGSTOP)
    links[0].send(2, tag, [bytes(60_000_000)])
    start = time.monotonic()
    with pytest.raises(PeerLostError, match="party 2"):
        links[0].receive(2, tag)
    assert time.monotonic() - start < 6


def test_who_left_in_good_order_can_come_back(
    three: Three, start_child: Callable[..., Child], meet: Callable[..., None]
) -> None:
    child, links = three
    exchange(links, child)
    child.tell("quit")
    deadline = time.monotonic() + 5
    while 2 in links[0].connected or 2 in links[1].connected:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(PeerLostError, match=r"party 2.*has closed its link"):
        links[0].receive(2, Tag(os.urandom(16), 0, 0, ""))
    again = start_child()
    meet(links, again.has_spoken)
    assert again.says() == "connected"
    exchange(links, again)


class Narrow:
    """A port of this machine that forwards bytes to another port, at a limited rate."""

    def __init__(self, target: str, rate: float) -> None:
        host, port = target.removeprefix("tcp://").split(":")
        self.target, self.rate = (host, int(port)), rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ends: list[socket.socket] = [self.listener]
        Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            self.ends += [near, far]
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            Thread(target=self.copy, args=(near, far, self.rate), daemon=True).start()
            Thread(target=self.copy, args=(far, near, self.rate), daemon=True).start()

    def copy(self, source: socket.socket, sink: socket.socket, rate: float) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                time.sleep(len(data) / rate)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        for end in self.ends:
            end.close()


def test_a_slow_network_is_not_taken_for_a_death(
    open_link: OpenLink, meet: Callable[..., None], keys: list[KeyPair], addresses: list[str]
) -> None:
    narrow = Narrow(addresses[1], rate=4e6)
    try:
        first = open_link(0, peers={1: Peer(narrow.address, keys[1].public)}, heartbeat=1.0, timeout=20.0)
        second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)}, heartbeat=1.0, timeout=20.0)
        meet([first, second])
        tag = Tag(os.urandom(16), 0, 0, "MatMul")
        start = time.monotonic()
        first.send(1, tag, [bytes(12_000_000)])
        assert len(second.receive(0, tag)[0]) == 12_000_000
        assert time.monotonic() - start > 2, "the network was not slow"
        second.send(0, tag, [b"answer"])
        assert bytes(first.receive(1, tag)[0]) == b"answer"
    finally:
        narrow.close()


def test_a_busy_but_living_peer_ends_in_a_timeout(
    open_link: OpenLink, meet: Callable[..., None], start_child: Callable[..., Child]
) -> None:
    child = start_child(heartbeat=1.0)
    links = [open_link(i, heartbeat=1.0, timeout=2.0) for i in (0, 1)]
    meet(links, child.has_spoken)
    assert child.says() == "connected"
    with pytest.raises(RequestTimeoutError):
        links[0].receive(2, Tag(os.urandom(16), 0, 0, ""))
