"""Servers die or hang in the middle of a request, clients leave: errors are clear, and service goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import OnnxpumaError, PeerLostError, TransportError
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import NAMES, LocalCluster

Feed = dict[str, np.ndarray]
AT_ONCE = 15.0  # seconds, on a busy machine: half the time a request may wait for a message


def log_of(cluster: LocalCluster, party: int) -> str:
    return (cluster.folder / f"{NAMES[party]}.log").read_text()


def computes(of: int) -> bool:
    """Whether these are the steps of a run: a request that waits has one."""
    return of > 1


class Asking(Thread):
    """A request in a thread; `told` once it waits or runs, `begun` once it runs, `error` if it fails;
    `steps` of the run that are done."""

    def __init__(self, client: Client, feed: Feed) -> None:
        super().__init__(daemon=True)
        self.client, self.feed = client, feed
        self.told, self.begun, self.steps = False, False, 0
        self.outputs: Feed | None = None
        self.error: OnnxpumaError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.outputs = self.client.run(self.feed, progress=self.count).outputs
        except OnnxpumaError as error:
            self.error = error

    def count(self, done: int, of: int, label: str) -> None:
        self.told, self.begun, self.steps = True, self.begun or computes(of), max(self.steps, done)

    def failed(self, seconds: float) -> OnnxpumaError:
        self.join(seconds)
        assert not self.is_alive(), "the client still waits"
        assert self.error is not None, "the request did not fail"
        return self.error


@pytest.fixture
def client(frail_cluster: Any) -> Iterator[Client]:
    with frail_cluster.client() as made:
        yield made


def works(cluster: LocalCluster, feed: Feed) -> None:
    """Check that the servers serve again, whatever happened."""
    with cluster.client() as client:
        assert client.run(feed, timeout=25).outputs["y"].shape == (2, 8)


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_party_is_killed_in_the_middle_of_a_request(
    party: int, frail_cluster: Any, client: Client, feed: Feed, until: Callable[..., None]
) -> None:
    others = [i for i in range(3) if i != party]
    before = {i: len(log_of(frail_cluster, i)) for i in others}
    with frail_cluster.unhurried():
        asking = Asking(client, feed)
        until(lambda: asking.begun)
        os.kill(frail_cluster.pids[party], signal.SIGKILL)
        start = time.monotonic()
        error = asking.failed(AT_ONCE)
        assert isinstance(error, TransportError)
        assert f"server {party} (tcp://127.0.0.1" in error.message or f"party {party}" in error.message
        for i in others:
            until(lambda i=i: " failed: " in log_of(frail_cluster, i)[before[i] :], AT_ONCE)
    assert time.monotonic() - start < AT_ONCE
    frail_cluster.restart(party)
    assert client.run(feed, timeout=25).outputs["y"].shape == (2, 8), "the earlier client is served again"


def test_a_request_while_a_party_is_away_fails_in_time_or_waits_for_it(
    frail_cluster: Any, feed: Feed
) -> None:
    os.kill(frail_cluster.pids[1], signal.SIGKILL)
    start = time.monotonic()
    config, keys = frail_cluster.config, frail_cluster.client_keys
    hasty = replace(config, timeouts=replace(config.timeouts, connect=0.5))
    with Client(hasty, keys) as client, pytest.raises(PeerLostError, match="no answer from server 1"):
        client.run(feed)
    assert time.monotonic() - start < 8  # not the ten seconds of the default
    with frail_cluster.client() as client:
        asking = Asking(client, feed)
        frail_cluster.restart(1)
        asking.join(25)
        assert asking.outputs is not None, str(asking.error)


@pytest.mark.parametrize("party", [0, 2])
def test_a_party_hangs_in_the_middle_of_a_request(
    party: int, frail_cluster: Any, client: Client, feed: Feed, until: Callable[..., None]
) -> None:
    with frail_cluster.unhurried():
        asking = Asking(client, feed)
        until(lambda: asking.begun)
        os.kill(frail_cluster.pids[party], signal.SIGSTOP)
        try:
            error = asking.failed(AT_ONCE)
            assert isinstance(error, TransportError)
            assert f"server {party} (" in error.message or f"party {party} (" in error.message
        finally:
            os.kill(frail_cluster.pids[party], signal.SIGCONT)
    works(frail_cluster, feed)


@pytest.mark.parametrize("how", ["cancels", "is cut off"])
def test_a_client_that_leaves_makes_room_for_the_next(
    how: str, frail_cluster: Any, feed: Feed, until: Callable[..., None]
) -> None:
    before = [len(log_of(frail_cluster, i)) for i in range(3)]
    leaving = frail_cluster.client()

    def leave(done: int, of: int, label: str) -> None:
        if computes(of):
            if how == "is cut off":  # it dies before it can tell anyone
                leaving._cluster._push = lambda *_: False  # type: ignore[method-assign]
            raise KeyboardInterrupt

    with frail_cluster.unhurried():
        with pytest.raises(KeyboardInterrupt):
            leaving.run(feed, progress=leave)
        leaving.close()
        start = time.monotonic()
        for party in range(3):
            until(lambda p=party: " failed: " in log_of(frail_cluster, p)[before[p] :], AT_ONCE)
    works(frail_cluster, feed)
    assert time.monotonic() - start < 2 * AT_ONCE - 1  # before the request times out
    assert "the client left" in "".join(log_of(frail_cluster, i)[before[i] :] for i in range(3))


def test_the_next_in_line_is_served_when_a_waiting_client_leaves(
    frail_cluster: Any, feed: Feed, until: Callable[..., None]
) -> None:
    queued: list[str] = []

    def leave(done: int, of: int, label: str) -> None:
        queued.append(label)
        raise KeyboardInterrupt

    with frail_cluster.client() as first, frail_cluster.client() as third:
        second = frail_cluster.client()
        with frail_cluster.unhurried():
            asking = Asking(first, feed)
            until(lambda: asking.begun)
            with pytest.raises(KeyboardInterrupt):
                second.run(feed, progress=leave)
            second.close()
            next_one = Asking(third, feed)
            until(lambda: next_one.told)
        for served in (asking, next_one):
            served.join(AT_ONCE)
            assert served.outputs is not None, str(served.error)
    assert queued == ["1 requests wait before this one"]


def test_a_timeout_of_the_client_frees_the_servers(frail_cluster: Any, client: Client, feed: Feed) -> None:
    refused = pytest.raises(TransportError, match=r"no result from server .* within 0\.1 s")
    with frail_cluster.unhurried(), refused:
        client.run(feed, timeout=0.1)
    works(frail_cluster, feed)


def test_status_is_answered_while_servers_compute(
    frail_cluster: Any, client: Client, feed: Feed, until: Callable[..., None]
) -> None:
    other = frail_cluster.client()
    other.status()
    with frail_cluster.unhurried():
        asking = Asking(client, feed)
        until(lambda: asking.begun)
        states: list[Any] = other.status()
    assert [status.state for status in states] == ["running"] * 3
    other.close()
    asking.join(20)
    assert asking.outputs is not None
