"""Clients and strangers that ask too much: nobody can take more than a share, and the others are served."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

import onnxpuma
from onnxpuma.config import ClusterConfig, LimitConfig
from onnxpuma.errors import BusyError, InputError, OnnxpumaError, RequestTimeoutError
from onnxpuma.roles.client import Client
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.sparing import Sparing

pytestmark = pytest.mark.timeout(120)

Feed = dict[str, np.ndarray]
LIMITS = LimitConfig(connections=12, waiting=40, message_megabytes=20)


def memory() -> float:
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Service:
    """Three servers in threads that know two clients: the honest one, and one that means harm."""

    def __init__(self, hall: Any, folder: Path, **timeouts: float) -> None:
        self.honest, self.bad = hall.client_keys, generate()
        self.config: ClusterConfig = replace(
            hall.config,
            clients={"honest": self.honest.public, "bad": self.bad.public},
            limits=LIMITS,
            timeouts=replace(hall.config.timeouts, connect=10.0, **timeouts),
        )
        self.threads = [hall.start(party, folder, config=self.config) for party in range(3)]
        assert all(thread.ready.wait(20) for thread in self.threads)

    def client(self, keys: KeyPair | None = None) -> Client:
        return Client(self.config, keys or self.honest)

    def works(self, feed: Feed) -> None:
        with self.client() as client:
            assert client.run(feed, timeout=25).outputs["y"].shape == (2, 8)

    @contextmanager
    def hostile(self, what: str, party: int = 0, **settings: Any) -> Iterator[subprocess.Popen[str]]:
        place = self.config.parties[party]
        told = {
            "address": place.client_address,
            "server": place.public_key,
            "public": self.bad.public,
            "secret": self.bad.secret,
            "what": what,
            **settings,
        }
        root = str(Path(onnxpuma.__file__).parent.parent)
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("hostile.py")), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()


def begun(process: subprocess.Popen[str], seconds: float = 40) -> bool:
    return bool(select.select([process.stdout], [], [], seconds)[0])


@pytest.fixture
def service(hall: Any, model_dir: Path) -> Service:
    return Service(hall, model_dir)


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """What one test has filled the log with does not silence it in the next."""
    for name in ("onnxpuma.transport", "onnxpuma.roles"):
        for part in logging.getLogger(name).filters:
            if isinstance(part, Sparing):
                part._windows.clear()


@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param(1 << 20, 200, id="long", marks=pytest.mark.slow),
        pytest.param(4, 3_000_000, id="tiny"),
    ],
)
def test_a_message_without_end_is_cut_off(
    service: Service, feed: Feed, size: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    service.works(feed)
    before, most = memory(), 0.0
    with service.hostile("frames", bytes=size, count=count):
        deadline = time.monotonic() + 40
        while "wait to be read" not in caplog.text and time.monotonic() < deadline:
            most = max(most, memory() - before)
            time.sleep(0.02)
        assert "a connection of bad from 127.0.0.1 was cut" in caplog.text
        service.works(feed)
        most = max(most, memory() - before)
    assert most < 6 * LIMITS.message_megabytes


def test_frames_that_were_not_announced_keep_their_sender_out(
    service: Service, feed: Feed, caplog: pytest.LogCaptureFixture, until: Callable[..., None]
) -> None:
    with service.hostile("frames", bytes=4, count=50_000):
        until(lambda: "frames more than it announced" in caplog.text, 30)
        service.works(feed)
    with service.client(service.bad) as client, pytest.raises(BusyError):
        client.run(feed)


def test_answers_that_are_never_read(
    service: Service, feed: Feed, caplog: pytest.LogCaptureFixture, until: Callable[..., None]
) -> None:
    service.works(feed)
    before = memory()
    with service.hostile("unread", count=200_000):
        until(lambda: "its answers are not read" in caplog.text, 60)
        service.works(feed)
        assert memory() - before < 100


def test_connections_of_one_client_are_counted(
    service: Service, feed: Feed, until: Callable[..., None]
) -> None:
    port = service.config.parties[0].client_port
    with service.hostile("connections", count=150, speaks=2) as process:
        assert begun(process)
        service.works(feed)
        until(lambda: accepted(port) <= LIMITS.connections + 2, 20)
        with service.client(service.bad) as crowded, pytest.raises(BusyError, match="too many connections"):
            crowded.run(feed)
        process.kill()
        process.wait()
        time.sleep(0.6)
        with service.client(service.bad) as again:
            assert again.run(feed).outputs["y"].shape == (2, 8), "there is room again"


def accepted(port: int) -> int:
    """TCP connections that stand at this port of the machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and row[1].endswith(f":{port:04X}") for row in rows)


def test_strangers_that_say_nothing_do_not_keep_others_out(service: Service, feed: Feed) -> None:
    port = service.config.parties[0].client_port
    with service.hostile("silent", count=400) as process:
        assert begun(process)
        time.sleep(0.6)
        assert accepted(port) <= 4 * LIMITS.connections + 2
        service.works(feed)


def test_strangers_fill_no_log(service: Service, feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    with service.hostile("knock", count=300) as process:
        assert begun(process)
        service.works(feed)
    refused = [r for r in caplog.records if "is not on the list" in r.getMessage()]
    assert 1 <= len(refused) <= 45


def half_sent(service: Service, feed: Feed, count: int, parties: tuple[int, ...]) -> list[Client]:
    """Requests of the bad client that reach some of the servers alone."""
    made = []
    for _ in range(count):
        client = service.client(service.bad)
        client.model  # noqa: B018  (fetched whole)
        push = client._cluster._push
        client._cluster._push = (  # type: ignore[method-assign]
            lambda server, frames, push=push: server.number not in parties or push(server, frames)
        )
        made.append(client)

        client.failures = []  # type: ignore[attr-defined]

        def ask(client: Client = client) -> None:
            try:
                client.run(feed, ["y"], timeout=20)
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
        until(lambda: all(client.failures for client in clients), 15)  # type: ignore[attr-defined]
        for client in clients:
            (failure,) = client.failures  # type: ignore[attr-defined]
            assert isinstance(failure, RequestTimeoutError)
            assert f"reached server {parties[0]}" in failure.message or "reached server" in failure.message
    finally:
        for client in clients:
            client.close()
    service.works(feed)


def test_a_share_of_the_queue_is_full_and_the_others_have_theirs(service: Service, feed: Feed) -> None:
    """More requests than one client may have waiting, sent to one server and never completed."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    place = service.config.parties[0]
    socket.linger = 0
    socket.curve_publickey, socket.curve_secretkey = service.bad.public.encode(), service.bad.secret.encode()
    socket.curve_serverkey = place.public_key.encode()
    socket.connect(place.client_address)
    sent: list[list[bytes]] = []
    with service.client(service.bad) as client:
        client.model  # noqa: B018

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


def spoiled(client: Client, spoil: Callable[[wire_pb2.Request, list[Any], list[list[Any]]], None]) -> None:
    request = client._cluster.request

    def send(body: Any, public: Any, private: Any, **options: Any) -> Any:
        spoil(body, public, private)
        return request(body, public, private, **options)

    client._cluster.request = send  # type: ignore[method-assign]


def test_no_plan_is_made_for_shares_that_are_not_there(
    service: Service, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long sequence is declared, with its public mask, and nothing that would be computed on is sent."""
    planned: list[Any] = []
    length = 5000
    service.works(feed)
    from onnxpuma.roles.plans import Plans

    get = Plans.get
    monkeypatch.setattr(Plans, "get", lambda *a, **k: planned.append(a) or get(*a, **k))

    def declare(body: wire_pb2.Request, public: list[Any], private: list[list[Any]]) -> None:
        for entry in body.inputs:
            if entry.name in ("ids", "attention_mask"):
                entry.shape[1] = length
        public[1] = np.ones((2, length), np.int64)

    with service.client(service.bad) as client:
        client.run(feed)
        planned.clear()
        spoiled(client, declare)
        with pytest.raises(InputError, match="was given no shares of 'ids"):
            client.run(feed)
    assert len(planned) == 1, "the client alone has planned"


def test_what_is_beyond_a_limit_is_refused_by_name(hall: Any, model_dir: Path, feed: Feed) -> None:
    global_limits = replace(LIMITS, elements=50)
    service = Service.__new__(Service)
    service.honest = hall.client_keys
    service.config = replace(hall.config, limits=global_limits)
    threads = [hall.start(party, model_dir, config=service.config) for party in range(3)]
    assert all(thread.ready.wait(20) for thread in threads)
    with service.client() as client:
        long = {**feed, "ids": np.zeros((2, 30), np.int64), "attention_mask": np.ones((2, 30), np.int64)}
        with pytest.raises(InputError, match="has 60 elements, 50 are allowed") as caught:
            client.run(long)
        assert "elements" in caught.value.hint
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_lists_in_a_request_are_bounded(service: Service, feed: Feed) -> None:
    many = [wire_pb2.Held(handle=bytes(16), name=str(number)) for number in range(5000)]

    def lengthen(body: wire_pb2.Request, public: list[Any], private: list[list[Any]]) -> None:
        body.release.extend(many)

    with service.client(service.bad) as client:
        client.model  # noqa: B018
        with pytest.raises(InputError, match="names 5000 values to release, 4096 are allowed"):
            client._cluster.request(wire_pb2.Request(release=many), [], [[], [], []])
        spoiled(client, lengthen)
        with pytest.raises(InputError, match="names 5000 values to release, 4096 are allowed"):
            client.run(feed)
    for change in (
        lambda body: body.outputs.extend(["y"] * 100),
        lambda body: body.outputs.extend(["y"]),
        lambda body: body.inputs.extend(list(body.inputs)),
    ):
        with service.client(service.bad) as client:
            client.model  # noqa: B018
            spoiled(client, lambda body, *_, change=change: change(body))
            with pytest.raises(InputError, match=r"the request (names|gives)"):
                client.run(feed, ["y"])
    service.works(feed)


def test_a_request_may_not_run_for_ever(hall: Any, long_model_dir: Path, feed: Feed) -> None:
    config = replace(hall.config, limits=replace(LIMITS, seconds=0.2))
    threads = [hall.start(party, long_model_dir, config=config) for party in range(3)]
    assert all(thread.ready.wait(20) for thread in threads)
    with Client(config, hall.client_keys) as client, pytest.raises(OnnxpumaError, match=r"more than 0\.2 s"):
        client.run(feed)


def crowd(service: Service, model_path: Path, clients: int, seconds: float, keys: list[KeyPair]) -> list[int]:
    """Clients that ask one request after the other, each with inputs of its own; how many answers each got.

    Every answer is compared.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model_path)
    answers, wrong = [0] * clients, []
    deadline = time.monotonic() + seconds

    def ask(number: int) -> None:
        rng = np.random.default_rng(number)
        own = {
            "ids": rng.integers(0, 50, (1, 2)),
            "attention_mask": np.ones((1, 2), np.int64),
            "x": rng.normal(0, 1, (1, 8)).astype(np.float32),
        }
        want = session.run(["y"], own)[0]
        with Client(service.config, keys[number % len(keys)]) as client:
            while time.monotonic() < deadline:
                got = client.run(own, ["y"], timeout=100).outputs["y"]
                if np.abs(got - want).max() > 1e-3:
                    wrong.append(number)
                answers[number] += 1

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 110)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    return answers


def test_clients_share_the_servers_evenly(hall: Any, model_dir: Path, model_path: Path) -> None:
    service = crowded_service(hall, model_dir, 8)
    answers = crowd(service, model_path, 8, 4.0, service.keys)  # type: ignore[attr-defined]
    assert min(answers) >= 1
    assert max(answers) <= 2 * min(answers) + 2, answers


def test_connections_are_renewed_while_requests_run(
    hall: Any, model_dir: Path, model_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "onnxpuma.transport")
    service = Service(hall, model_dir, renew=0.8)
    answers = crowd(service, model_path, 2, 6.0, [service.honest])
    assert min(answers) >= 2
    assert caplog.text.count("a fresh connection to party") >= 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("one_key", [False, True], ids=["keys of their own", "one key"])
def test_64_clients_share_the_servers_evenly(
    hall: Any, model_dir: Path, model_path: Path, one_key: bool
) -> None:
    service = crowded_service(hall, model_dir, 64)
    keys = service.keys[:1] if one_key else service.keys  # type: ignore[attr-defined]
    answers = crowd(service, model_path, 64, 45.0, keys)
    assert min(answers) >= 1
    assert max(answers) <= 2 * min(answers) + 2, answers


def crowded_service(hall: Any, folder: Path, clients: int) -> Service:
    service = Service.__new__(Service)
    service.keys = [generate() for _ in range(clients)]  # type: ignore[attr-defined]
    known = {f"c{i}": pair.public for i, pair in enumerate(service.keys)}  # type: ignore[attr-defined]
    service.config = replace(hall.config, clients=known, timeouts=replace(hall.config.timeouts, connect=60.0))
    threads = [hall.start(party, folder, config=service.config) for party in range(3)]
    assert all(thread.ready.wait(20) for thread in threads)
    return service
