"""Three servers in threads that know two clients, one of them hostile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import onnxpuma
from onnxpuma.config import ClusterConfig, LimitConfig
from onnxpuma.roles.client.client import Client
from onnxpuma.transport.curve import KeyPair, generate

Feed = dict[str, np.ndarray]

LIMITS = LimitConfig(connections=12, waiting=40, message_megabytes=20)


class Service:
    """Three servers in threads that know two clients: an honest one and a hostile one."""

    def __init__(self, hall: Any, folder: Path, **timeouts: float) -> None:
        self.honest, self.bad = hall.client_keys, generate()
        self.config: ClusterConfig = replace(
            hall.config,
            clients={"honest": self.honest.public, "bad": self.bad.public},
            limits=LIMITS,
            timeouts=replace(hall.config.timeouts, connect=10.0, **timeouts),
        )
        self.threads = [hall.start(party, folder, config=self.config) for party in range(3)]
        assert all(thread.ready.wait(60) for thread in self.threads)

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
