"""Parties die or hang between two requests; links are cut during a request and between two."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import OnnxpumaError, TransportError
from onnxpuma.roles.client.client import Client
from tests.proxy import Proxy

pytestmark = pytest.mark.timeout(120)

Feed = dict[str, np.ndarray]
LINKS = [(one, other) for one in range(3) for other in range(3) if one != other]


class Web:
    """Three servers in threads, with a proxy for each link: between two servers, and from clients."""

    def __init__(self, hall: Any, folder: Path) -> None:
        config: ClusterConfig = hall.config
        self.unhurried = hall.unhurried
        # The proxies are Python code in a process that also computes: they may be late by seconds.
        self.timeouts = replace(config.timeouts, connect=15.0, heartbeat=4.0)
        self.ways = {(one, other): Proxy(config.parties[other].peer_address) for one, other in LINKS}
        self.doors = [Proxy(party.client_address) for party in config.parties]
        self.keys = hall.client_keys
        self.client_config = self.seen(
            config, {i: door.port for i, door in enumerate(self.doors)}, "client_port"
        )
        for party in range(3):
            ports = {other: self.ways[party, other].port for other in range(3) if other != party}
            hall.start(party, folder, config=self.seen(config, ports, "peer_port"))
        assert all(thread.ready.wait(60) for thread in hall.started)

    def seen(self, config: ClusterConfig, ports: dict[int, int], key: str) -> ClusterConfig:
        """The cluster as one of them sees it, with the others at these ports."""
        rows: Any = tuple(
            replace(row, **{key: ports[i]}) if i in ports else row for i, row in enumerate(config.parties)
        )
        return replace(config, parties=rows, timeouts=self.timeouts)

    def works(self, feed: Feed) -> None:
        with Client(self.client_config, self.keys) as client:
            assert client.run(feed, timeout=30).outputs["y"].shape == (2, 8)

    def disturbed(self, feed: Feed, way: Proxy, how: str) -> OnnxpumaError:
        """The error of a request during which this proxy cuts the link or swallows everything."""
        errors: list[OnnxpumaError] = []
        steps: list[int] = []

        def ask() -> None:
            with Client(self.client_config, self.keys) as client:
                try:
                    client.run(feed, progress=lambda done, *_: steps.append(done), timeout=30)
                except OnnxpumaError as error:
                    errors.append(error)

        asking = Thread(target=ask, daemon=True)
        with self.unhurried():
            asking.start()
            deadline = time.monotonic() + 60  # on a busy machine
            while not steps:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            if how == "cut":
                way.cut()
            else:
                way.swallows = True
            asking.join(20)
        assert not asking.is_alive(), "the client still waits"
        assert len(errors) == 1, "the request did not fail"
        if how == "cut":
            way.mend()
        way.swallows = False
        return errors[0]

    def close(self) -> None:
        for way in (*self.ways.values(), *self.doors):
            way.cut()


@pytest.fixture
def web(hall: Any, long_model_dir: Path) -> Iterator[Web]:
    made = Web(hall, long_model_dir)
    yield made
    for thread in hall.started:
        thread.stopping.set()
    for thread in hall.started:
        thread.join(10)
    made.close()


@pytest.mark.parametrize(
    ("link", "how"),
    [
        pytest.param(link, how, marks=() if (link, how) in (((0, 1), "cut"),) else pytest.mark.slow)
        for link in LINKS
        for how in ("cut", "swallow")
    ],
)
def test_a_link_between_servers_is_disturbed(web: Web, feed: Feed, link: tuple[int, int], how: str) -> None:
    error = web.disturbed(feed, web.ways[link], how)
    assert isinstance(error, TransportError)
    web.works(feed)
    web.ways[link].cut()
    time.sleep(0.5)
    web.ways[link].mend()
    web.works(feed)


@pytest.mark.parametrize(
    ("party", "how"),
    [
        pytest.param(party, how, marks=() if (party, how) == (1, "cut") else pytest.mark.slow)
        for party in range(3)
        for how in ("cut", "swallow")
    ],
)
def test_the_link_of_a_client_is_disturbed(web: Web, feed: Feed, party: int, how: str) -> None:
    error = web.disturbed(feed, web.doors[party], how)
    assert isinstance(error, TransportError)
    web.works(feed)


@pytest.mark.slow
@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_party_is_killed_or_hangs_between_two_requests(party: int, frail_cluster: Any, feed: Feed) -> None:
    def works() -> None:
        with frail_cluster.client() as client:
            assert client.run(feed, timeout=30).outputs["y"].shape == (2, 8)

    works()
    os.kill(frail_cluster.pids[party], signal.SIGSTOP)
    try:
        time.sleep(3.0)
        with frail_cluster.client() as client, pytest.raises(TransportError) as caught:
            client.run(feed, timeout=15)
        assert f"server {party}" in caught.value.message or f"party {party}" in caught.value.message
    finally:
        os.kill(frail_cluster.pids[party], signal.SIGCONT)
    works()
    os.kill(frail_cluster.pids[party], signal.SIGKILL)
    time.sleep(0.3)
    frail_cluster.restart(party)
    works()
