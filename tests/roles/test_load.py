"""Clients and strangers that ask too much: none gets more than its share, and the others are served."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from onnxpuma.errors import BusyError, OnnxpumaError, PeerLostError, RequestTimeoutError
from onnxpuma.roles.client.client import Client
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.sparing import Sparing
from tests.roles.service import LIMITS, Feed, Service

pytestmark = pytest.mark.timeout(120)


def memory() -> float:
    """The memory of this process, in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def begun(process: subprocess.Popen[str], seconds: float = 40) -> bool:
    return bool(select.select([process.stdout], [], [], seconds)[0])


@pytest.fixture
def service(hall: Any, model_dir: Path) -> Service:
    return Service(hall, model_dir)


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """The lines that one test logs do not silence the log in the next."""
    for name in ("onnxpuma.transport", "onnxpuma.roles"):
        for part in logging.getLogger(name).filters:
            if isinstance(part, Sparing):
                part._windows.clear()


@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param(1 << 20, 1000, id="long", marks=pytest.mark.slow),
        pytest.param(4, 8_000_000, id="tiny"),
    ],
)
def test_a_message_without_end_is_cut_off(
    service: Service, feed: Feed, size: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    service.works(feed)
    before, most = memory(), 0.0
    with service.hostile("frames", bytes=size, count=count):
        deadline = time.monotonic() + 120
        while "are unread" not in caplog.text and time.monotonic() < deadline:
            most = max(most, memory() - before)
            time.sleep(0.02)
        assert "cut a connection of bad from 127.0.0.1" in caplog.text
        service.works(feed)
        most = max(most, memory() - before)
    # The gate looks five times a second, so more than the limit arrives, and a tiny frame takes ZeroMQ four
    # times its bytes. The whole of either message would take more than a gigabyte.
    assert most < 15 * LIMITS.message_megabytes


def test_frames_that_were_not_announced_keep_their_sender_out(
    service: Service, feed: Feed, caplog: pytest.LogCaptureFixture, until: Callable[..., None]
) -> None:
    with service.hostile("frames", bytes=4, count=50_000):
        until(lambda: "more frames than it announced" in caplog.text, 30)
        service.works(feed)
    with service.client(service.bad) as client, pytest.raises(BusyError):
        client.run(feed)


def test_answers_that_are_never_read(
    service: Service, feed: Feed, caplog: pytest.LogCaptureFixture, until: Callable[..., None]
) -> None:
    service.works(feed)
    before = memory()
    with service.hostile("unread", count=200_000):
        until(lambda: "it does not read its answers" in caplog.text, 60)
        service.works(feed)
        assert memory() - before < 100


def test_connections_of_one_client_are_counted(
    service: Service, feed: Feed, until: Callable[..., None]
) -> None:
    port = service.config.parties[0].client_port
    with service.hostile("connections", count=150, speaks=2) as process:
        assert begun(process)
        until(lambda: answered(service, feed), 20)
        until(lambda: accepted(port) <= LIMITS.connections + 2, 20)
        with service.client(service.bad) as crowded, pytest.raises(BusyError, match="too many connections"):
            crowded.run(feed)
        process.kill()
        process.wait()
        until(lambda: accepted(port) <= 2, 20)
        until(lambda: served(service, feed), 20)


def answered(service: Service, feed: Feed) -> bool:
    """Whether the honest client gets through. It shares the address of the others, whose youngest
    connections are cut, so it may have to try again."""
    try:
        service.works(feed)
    except PeerLostError:
        return False
    return True


def served(service: Service, feed: Feed) -> bool:
    """Whether the client that had too many connections gets in again."""
    try:
        with service.client(service.bad) as client:
            return bool(client.run(feed).outputs["y"].shape == (2, 8))
    except BusyError:
        return False


def accepted(port: int) -> int:
    """Established TCP connections at this port of the machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and row[1].endswith(f":{port:04X}") for row in rows)


def test_strangers_that_say_nothing_do_not_keep_others_out(
    service: Service, feed: Feed, until: Callable[..., None]
) -> None:
    port = service.config.parties[0].client_port
    with service.hostile("silent", count=400) as process:
        assert begun(process)
        until(lambda: accepted(port) <= 4 * LIMITS.connections + 2, 20)
        service.works(feed)


def test_strangers_fill_no_log(service: Service, feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    with service.hostile("knock", count=300) as process:
        assert begun(process)
        service.works(feed)
    refused = [r for r in caplog.records if "is not on the list" in r.getMessage()]
    assert 1 <= len(refused) <= 45


def half_sent(service: Service, feed: Feed, count: int, parties: tuple[int, ...]) -> list[Client]:
    """Requests of the bad client that reach only some of the servers."""
    made = []
    for _ in range(count):
        client = service.client(service.bad)
        _ = client.model, client.network  # fetched whole
        push = client._cluster._push
        client._cluster._push = (  # type: ignore[method-assign]
            lambda server, frames, push=push: server.number not in parties or push(server, frames)
        )
        made.append(client)

        client.failures = []  # type: ignore[attr-defined]

        def ask(client: Client = client) -> None:
            try:
                client.run(feed, ["y"], timeout=60)
            except OnnxpumaError as error:
                client.failures.append(error)  # type: ignore[attr-defined]

        threading.Thread(target=ask, daemon=True).start()
    return made


@pytest.mark.parametrize(
    "parties",
    [(0,), pytest.param((1, 2), marks=pytest.mark.slow), pytest.param((0, 1), marks=pytest.mark.slow)],
    ids=str,
)
def test_half_sent_requests_block_nobody_and_are_given_up(
    hall: Any, model_dir: Path, feed: Feed, parties: tuple[int, ...], until: Callable[..., None]
) -> None:
    service = Service(hall, model_dir, arrival=2.0)
    clients = half_sent(service, feed, 8, parties)
    try:
        time.sleep(0.5)
        start = time.monotonic()
        for _ in range(3):
            service.works(feed)
        assert time.monotonic() - start < 10
        until(lambda: all(client.failures for client in clients), 45)  # type: ignore[attr-defined]
        for client in clients:
            (failure,) = client.failures  # type: ignore[attr-defined]
            assert isinstance(failure, RequestTimeoutError)
            assert f"reached server {parties[0]}" in failure.message or "reached server" in failure.message
    finally:
        for client in clients:
            client.close()
    service.works(feed)


def test_a_share_of_the_queue_is_full_and_the_others_have_theirs(service: Service, feed: Feed) -> None:
    """One client sends more requests than may wait to one server and never completes them."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    place = service.config.parties[0]
    socket.linger = 0
    socket.curve_publickey, socket.curve_secretkey = service.bad.public.encode(), service.bad.secret.encode()
    socket.curve_serverkey = place.public_key.encode()
    socket.connect(place.client_address)
    sent: list[list[bytes]] = []
    with service.client(service.bad) as client:
        _ = client.model, client.network

        def note(server: Any, frames: Any) -> bool:
            sent.append([bytes(frame) for frame in frames])
            raise KeyboardInterrupt

        client._cluster._push = note  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            client.run(feed, ["y"])
    header = wire_pb2.ClientMessage.FromString(sent[0][0])
    answers = []
    for _ in range(LIMITS.waiting + 5):
        header.request.id = os.urandom(16)
        socket.send_multipart([header.SerializeToString(), *sent[0][1:]])
    deadline = time.monotonic() + 10
    while len(answers) < 5 and time.monotonic() < deadline:
        if socket.poll(100):
            message = wire_pb2.ServerMessage.FromString(socket.recv())
            if message.WhichOneof("body") == "failure":
                answers.append(message.failure)
    assert [answer.error for answer in answers] == ["BusyError"] * 5
    service.works(feed)
    socket.close()
