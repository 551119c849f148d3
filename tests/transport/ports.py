"""Client ports in threads, handlers that answer requests, and one request to three ports."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import numpy as np

from onnxpuma.errors import (
    OnnxpumaError,
)
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort, Request
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair

Handler = Callable[[int, ClientPort, Request], None]


def add_one(party: int, port: ClientPort, request: Request) -> None:
    """Answers with the first private buffer, adding one to each word."""
    words = np.frombuffer(request.private[0], np.uint64) + np.uint64(1)
    port.reply(request, wire_pb2.Accepted(session=b"s" * 16))
    port.reply(request, wire_pb2.Progress(step=1, steps=1, label="Add"))
    outputs = [wire_pb2.Array(name="y", dtype="float32", shape=[len(words)], buffers=1)]
    port.reply(request, wire_pb2.Result(outputs=outputs, rounds=party), [words])


class Server(Thread):
    """A ClientPort in a thread that passes requests to `handle`."""

    def __init__(
        self, party: int, keys: KeyPair, address: str, clients: dict[str, str], handle: Handler
    ) -> None:
        super().__init__(daemon=True)
        status = wire_pb2.Status(version="1.2", party=party, state="idle", model_digest=b"digest")
        self.party, self.handle = party, handle
        self.port = ClientPort(keys, address, clients, status, heartbeat=5.0)
        self.seen: list[Request] = []
        self.stopped = Event()
        self.start()

    def run(self) -> None:
        while not self.stopped.is_set():
            request = self.port.poll(0.05)
            if request is not None:
                self.seen.append(request)
                try:
                    self.handle(self.party, self.port, request)
                except OnnxpumaError as error:
                    self.port.fail(request, error)
        self.port.close()

    def stop(self) -> None:
        self.stopped.set()
        self.join(5)


def ask(cluster: Cluster, value: int = 0, **options: Any) -> list[int]:
    """Send one request with a different private word for each server; return the words of the answers."""
    body = wire_pb2.Request(model_digest=b"digest", version="1.2")
    private = [[np.array([value + party], np.uint64)] for party in range(3)]
    answers = cluster.request(body, [np.arange(3)], private, **options)
    return [int(np.frombuffer(answer.buffers[0], np.uint64)[0]) for answer in answers]


def hold(party: int, port: ClientPort, request: Request) -> None:
    """Keeps the request open, without an answer."""


def begin(party: int, port: ClientPort, request: Request) -> None:
    """Says that it runs the request, and never answers."""
    port.reply(request, wire_pb2.Accepted())


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
