"""Several pieces of work in one thread: turns, waiting, errors from both sides, and each run's own counts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from onnxpuma.errors import RemoteError, RequestTimeoutError
from onnxpuma.roles.server import fibers as fibers_module
from onnxpuma.roles.server.fibers import Fiber, FiberLink, Fibers
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import Tag
from onnxpuma.transport.zeromq import PeerLink
from tests.transport.conftest import addresses, keys, open_cluster, open_link  # noqa: F401


def test_fibers_take_turns_and_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fibers_module, "SLICE_SECONDS", -1.0)
    said: list[str] = []
    open_door = threading.Event()
    fibers = Fibers()

    def count(name: str) -> None:
        def work(fiber: Fiber) -> None:
            for number in range(3):
                said.append(f"{name}{number}")
                fiber.pass_on()

        fibers.start(work)

    def wait(fiber: Fiber) -> None:
        fiber.wait(open_door.is_set)
        said.append("in")

    fibers.start(wait)
    count("a")
    count("b")
    while fibers.go_on():
        pass
    assert said == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert len(fibers) == 1
    open_door.set()
    fibers.go_on()
    assert said[-1] == "in"
    assert len(fibers) == 0


def test_a_lone_fiber_computes_on() -> None:
    fibers, rounds = Fibers(), 0

    def work(fiber: Fiber) -> None:
        nonlocal rounds
        for _ in range(1000):
            rounds += 1
            fiber.pass_on()

    fibers.start(work)
    assert rounds == 1000, "it gives way only after LONE_SECONDS"


def test_errors_pass_both_ways() -> None:
    fibers, caught = Fibers(), list[Exception]()

    def patient(fiber: Fiber) -> None:
        try:
            fiber.wait(lambda: False)
        except RemoteError as error:
            caught.append(error)

    def broken(fiber: Fiber) -> None:
        fiber.wait(lambda: True)
        raise KeyboardInterrupt

    one = fibers.start(patient)
    fibers.start(broken)
    with pytest.raises(KeyboardInterrupt):
        fibers.go_on()
    assert len(fibers) == 1, "the other is not disturbed"
    fibers.throw(one, RemoteError("enough"))
    assert [error.args for error in caught] == [RemoteError("enough").args]
    assert len(fibers) == 0


def test_each_run_has_its_own_words_and_counts(open_cluster) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    """Two sessions between parties 0 and 1, all in one thread, whose rounds interleave."""
    links: list[PeerLink] = open_cluster()
    fibers, got = Fibers(), dict[tuple[int, int], list[int]]()
    sessions = [os.urandom(16), os.urandom(16)]
    traffic = {}

    def talk(party: int, which: int) -> None:
        def work(fiber: Fiber) -> None:
            link = FiberLink(links[party], fiber)
            traffic[party, which] = link.traffic
            for number in range(20 + 10 * which):
                tag = Tag(sessions[which], 0, number, "words")
                link.send(1 - party, tag, [bytes([which, number])])
                got.setdefault((party, which), []).append(link.receive(1 - party, tag)[0][1])

        fibers.start(work)

    for which in (0, 1):
        for party in (0, 1):
            talk(party, which)
    deadline = time.monotonic() + 10
    while len(fibers):
        assert time.monotonic() < deadline
        for link in links:
            link.read()
        if not fibers.go_on():
            time.sleep(0.001)
    for which in (0, 1):
        for party in (0, 1):
            assert got[party, which] == list(range(20 + 10 * which))
            peer = traffic[party, which].peers[1 - party]
            assert peer.payload_sent == peer.payload_received == 2 * (20 + 10 * which)
            assert peer.messages_sent == peer.messages_received == 20 + 10 * which
    total = links[0].traffic.peers[1]
    both = [traffic[0, which].peers[1] for which in (0, 1)]
    assert total.bytes_sent == sum(one.bytes_sent for one in both)
    assert total.bytes_received == sum(one.bytes_received for one in both)


def test_a_run_that_gets_no_words_ends_by_itself(open_cluster) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    links: list[PeerLink] = open_cluster(timeout=0.2)
    fibers, caught = Fibers(), list[Exception]()

    def work(fiber: Fiber) -> None:
        link = FiberLink(links[0], fiber)
        tag = Tag(os.urandom(16), 0, 0, "MatMul")
        link.send(1, tag, [b""])
        try:
            link.receive(1, tag)
        except RequestTimeoutError as error:
            caught.append(error)

    fibers.start(work)
    deadline = time.monotonic() + 5
    while len(fibers) and time.monotonic() < deadline:
        links[0].read()
        fibers.go_on()
        time.sleep(0.01)
    assert "party 1 sent nothing in 0.2 s; party 0 is at step 0" in str(caught[0])


def test_a_lone_run_waits_where_it_is(open_cluster, monkeypatch) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    """It needs no turn of the loop then; it gives way after a while, and when a control message came."""
    links: list[PeerLink] = open_cluster(timeout=20.0)
    fibers, got = Fibers(), list[bytes]()
    session = os.urandom(16)

    def reads(number: int) -> Callable[[Fiber], None]:
        def work(fiber: Fiber) -> None:
            tag = Tag(session, 0, number, "words")
            got.append(bytes(FiberLink(links[0], fiber).receive(1, tag)[0]))

        return work

    waiting = fibers.start(reads(0))
    assert waiting.waits
    links[1].send(0, Tag(session, 0, 0, "words"), [b"late"])
    while len(fibers):
        links[0].wait(0.01)
        fibers.go_on()
    monkeypatch.setattr(fibers_module, "WAIT_SECONDS", 60.0)
    links[1].send(0, Tag(session, 0, 1, "words"), [b"soon"])
    fibers.start(reads(1))
    assert got == [b"late", b"soon"]
    links[1].send_control(0, wire_pb2.Start(session=session))
    waiting = fibers.start(reads(2))
    assert waiting.waits
    assert links[0].told
    links[1].send(0, Tag(session, 0, 2, "words"), [b"last"])
    while len(fibers):
        links[0].wait(0.01)
        fibers.go_on()
    assert got[-1] == b"last"
