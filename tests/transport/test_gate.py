"""A listening port: which connections are cut, which are not, and how much is logged about it."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import zmq

from onnxpuma.transport import sockets, sparing, wire, wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.gate import Bounds, Gate, _received
from onnxpuma.transport.line import Peer
from onnxpuma.transport.sparing import Sparing

pytestmark = pytest.mark.timeout(60)


class Port:
    """A listening socket whose connections a Gate watches; `near[i]` is the accepted end of `far[i]`."""

    def __init__(self, bounds: Bounds, in_use: Callable[[], set[int]] = set) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.gate = Gate(self.listener.getsockname()[1], bounds, in_use)
        self.far: list[socket.socket] = []
        self.near: list[socket.socket] = []

    def dial(self, count: int = 1) -> None:
        for _ in range(count):
            self.far.append(socket.create_connection(self.listener.getsockname()))
            self.near.append(self.listener.accept()[0])

    def alive(self) -> list[bool]:
        """Which connections are up, as seen from their far ends."""
        found = []
        for end in self.far:
            end.setblocking(False)
            try:
                found.append(end.recv(1) != b"")
            except BlockingIOError:
                found.append(True)
        return found

    def close(self) -> None:
        self.gate.close()
        for end in (self.listener, *self.far, *self.near):
            end.close()


@pytest.fixture
def open_port() -> Iterator[Callable[..., Port]]:
    made: list[Port] = []

    def make(bounds: Bounds, in_use: Callable[[], set[int]] = set) -> Port:
        made.append(Port(bounds, in_use))
        return made[-1]

    yield make
    for port in made:
        port.close()


def test_the_youngest_silent_connections_of_an_address_are_too_many(open_port: Callable[..., Port]) -> None:
    port = open_port(Bounds(connections=2))
    port.dial(12)
    time.sleep(0.7)
    assert port.alive() == [True] * 8 + [False] * 4


def test_those_that_have_spoken_stay(open_port: Callable[..., Port]) -> None:
    port = open_port(Bounds(connections=1))
    port.dial(2)
    time.sleep(0.3)
    port.dial(4)
    port.gate.heard(port.near[5].fileno(), "alice")
    time.sleep(0.7)
    assert port.alive()[5]
    assert sum(port.alive()) == 4


def test_one_that_says_nothing_is_cut(open_port: Callable[..., Port]) -> None:
    port = open_port(Bounds(silent=0.5))
    port.dial(2)
    port.gate.heard(port.near[0].fileno(), "alice")
    time.sleep(1.2)
    assert port.alive() == [True, False]


def test_what_is_not_read_is_bounded(open_port: Callable[..., Port]) -> None:
    port = open_port(Bounds(unread=100_000))
    port.dial(3)
    for end in port.near:
        port.gate.heard(end.fileno(), "alice")
    port.far[0].sendall(bytes(90_000))
    port.far[1].sendall(bytes(150_000))
    for _ in range(4):
        port.far[2].sendall(bytes(90_000))
        time.sleep(0.05)
        port.gate.heard(port.near[2].fileno(), "alice")  # it has been read
    time.sleep(0.6)
    assert port.alive() == [True, False, True]


def test_all_together_are_bounded_too(open_port: Callable[..., Port]) -> None:
    port = open_port(Bounds(unread=100_000))
    port.dial(6)
    for place, end in enumerate(port.far):
        end.sendall(bytes(85_000 + 1000 * place))
    time.sleep(0.7)
    assert port.alive() == [True] * 4 + [False] * 2, "those that bring most go first"


def test_old_connections_end_when_nobody_waits_at_them(open_port: Callable[..., Port]) -> None:
    waits: set[int] = set()
    port = open_port(Bounds(age=0.6), lambda: waits)
    port.dial(2)
    waits.add(port.near[1].fileno())
    for end in port.near:
        port.gate.heard(end.fileno(), "alice")
    time.sleep(1.4)
    assert port.alive() == [False, True]


def test_a_key_has_so_many_connections(open_port: Callable[..., Port]) -> None:
    port = open_port(Bounds(connections=2, silent=0.4))
    assert port.gate.admits("alice")
    assert port.gate.admits("alice")
    assert not port.gate.admits("alice")
    assert port.gate.admits("bob"), "each key for itself"
    port.dial()
    port.gate.heard(port.near[0].fileno(), "alice")
    assert not port.gate.admits("alice"), "one has spoken, one is expected"
    time.sleep(1.0)
    assert port.gate.admits("alice"), "the one that was expected has not come"
    assert not port.gate.admits("alice")
    port.far[0].close()
    port.near[0].close()
    time.sleep(1.5)
    assert port.gate.admits("alice")
    assert port.gate.admits("alice")


def test_other_sockets_of_the_process_are_left_alone(open_port: Callable[..., Port]) -> None:
    watched = open_port(Bounds(connections=1, unread=1000, silent=0.3))
    other = Port(Bounds())
    try:
        other.dial(8)
        other.far[0].sendall(bytes(10_000))
        watched.dial(1)
        time.sleep(0.9)
        assert other.near[0].recv(10_000) is not None
        assert other.alive() == [True] * 8
        assert watched.alive() == [False]
    finally:
        other.close()


def test_without_a_list_of_descriptors_they_are_tried_one_by_one(
    open_port: Callable[..., Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> list[str]:
        raise OSError("too many open files")

    monkeypatch.setattr("onnxpuma.transport.gate.os.listdir", none_left)
    port = open_port(Bounds(connections=1))
    port.dial(6)
    time.sleep(1.0)
    assert port.alive() == [True] * 4 + [False] * 2


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The records that "sparing.test", a logger with a Sparing filter, has written."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("sparing.test")
    handler, part = Keep(), Sparing(most=3, seconds=10.0)
    logger.addHandler(handler)
    logger.addFilter(part)
    yield lines
    logger.removeHandler(handler)
    logger.removeFilter(part)


def test_a_log_is_not_filled_by_lines_that_are_alike(
    written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(sparing.time, "monotonic", lambda: now[0])
    logger = logging.getLogger("sparing.test")
    for number in range(50):
        logger.warning("refused %s", number)
    logger.warning("something else: %d%%", 7)
    assert written == ["refused 0", "refused 1", "refused 2", "something else: 7%"]
    now[0] += 11
    logger.warning("refused %s", "100%")
    assert written[-1] == "refused 100% (and 47 more like the last ones)"
    for number in range(5):
        logger.warning("refused %s", number)
    now[0] += 11
    sparing.tell_left_out("sparing.test")
    assert written[-1] == "3 more lines like earlier ones were left out"
    count = len(written)
    sparing.tell_left_out("sparing.test")
    assert len(written) == count, "it is told once"


def test_what_others_say_is_printed_and_not_obeyed(written: list[str]) -> None:
    logger = logging.getLogger("sparing.test")
    logger.warning("the client has %s", "\x1b]0;evil\x07 0.1\n12:00:00 party 0 is ready")
    assert written == ["the client has ?]0;evil? 0.1?12:00:00 party 0 is ready"]
    logger.warning("the client has %s and", "x" * 100_000)
    assert len(written[-1]) < 2100
    logger.error("first line\nsecond line")
    assert written[-1] == "first line\nsecond line"


def test_kinds_of_lines_are_bounded_as_well() -> None:
    part = Sparing()
    for number in range(3000):
        part.filter(logging.LogRecord("x", logging.INFO, "", 0, f"text {number}", None, None))
    assert len(part._windows) <= sparing.KINDS


def test_a_client_that_asks_nothing_yet_says_who_it_is(
    keys: list[KeyPair], addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client, place = generate(), Peer(addresses[0], keys[0].public)
    clients, bounds = {client.public: "ward"}, Bounds(silent=0.5)
    with (
        caplog.at_level(logging.WARNING),
        ClientPort(keys[0], addresses[0], clients, wire_pb2.Status(), bounds=bounds) as port,
        Cluster([place], client),
    ):
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            port.poll(0.05)
    assert not caplog.messages


CUT_WHILE_MUCH_WAITS = """
import os, time
import zmq
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.curve import generate

server, client = generate(), generate()
with ClientPort(server, "tcp://127.0.0.1:*", {client.public: "c"}, wire_pb2.Status(), heartbeat=1.6) as port:
    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.linger = 0
    dealer.curve_publickey, dealer.curve_secretkey = client.public.encode(), client.secret.encode()
    dealer.curve_serverkey = server.public.encode()
    dealer.connect(port._router.last_endpoint.decode().rstrip(chr(0)))
    for _ in range(3000):
        request = wire_pb2.Request(id=os.urandom(16))
        dealer.send(wire_pb2.ClientMessage(request=request, sizes=[]).SerializeToString())
    assert port.poll(5) is not None
    time.sleep(0.3)
    port._gate.bar("c", "the test wants it")
    time.sleep(0.6)  # a heartbeat is due
    while port.poll(0.1):
        pass
print("serves on")
"""


def test_a_connection_that_is_cut_while_much_of_it_waits_ends_nobody() -> None:
    """If a connection ends after libzmq stopped reading it, at a full queue, the next heartbeat fails an
    assertion of libzmq and aborts the process."""
    ended = subprocess.run(
        [sys.executable, "-c", CUT_WHILE_MUCH_WAITS], capture_output=True, text=True, timeout=50, check=False
    )
    assert "serves on" in ended.stdout, ended.stderr


def test_what_was_taken_out_is_counted_as_it_came(open_port: Callable[..., Port]) -> None:
    """Reading one message does not excuse all the others that wait."""
    port = open_port(Bounds(unread=100_000))
    port.dial()
    for end in port.near:
        port.gate.heard(end.fileno(), "alice", 10)
    with suppress(OSError):
        for _ in range(8):
            port.far[0].sendall(bytes(40_000))
            time.sleep(0.1)
            port.gate.heard(port.near[0].fileno(), "alice", 10)
        time.sleep(0.5)
    assert port.alive() == [False]


@pytest.mark.parametrize("size", [0, 1, 222, 223, 70_000])
def test_the_size_of_a_frame_on_the_wire(size: int) -> None:
    context, server, client = zmq.Context(), generate(), generate()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    router.curve_server, router.curve_secretkey = True, server.secret.encode()
    port = router.bind_to_random_port("tcp://127.0.0.1")
    sockets.connect(dealer, f"tcp://127.0.0.1:{port}", client, server.public)
    dealer.send(b"")
    descriptor = router.recv_multipart(copy=False)[1].get(zmq.SRCFD)
    before = _received(descriptor)
    dealer.send_multipart([bytes(size), bytes(size)])
    router.recv_multipart()
    assert _received(descriptor) - before == 2 * wire.on_the_wire(size)
    for socket_ in (router, dealer):
        socket_.close(0)
    context.term()
