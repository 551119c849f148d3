"""Receipts of real servers: their chains are those of a replay; keys, settings and their mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.config import ReceiptConfig
from onnxpuma.errors import ConfigError, OnnxpumaError, ReceiptError
from onnxpuma.interpreter import Interpreter
from onnxpuma.roles.audit.replay import Asking, Recorded, replay
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.server import run, runs
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.run import Begun
from onnxpuma.roles.server.server import Server
from onnxpuma.transport.signing import SigningKey


class Watched:
    """What determines the next run of three servers in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: dict[int, Job] = {}
        self.private: dict[int, list[memoryview]] = {}
        self.parts: dict[int, list[bytes]] = {}
        self.interpreters: dict[int, Interpreter] = {}
        real_compute, real_open = runs.compute, run.open_session

        def compute(begun: Begun, interpreter: Interpreter, *rest: Any) -> Any:
            party, ((job, _),) = begun.link.party, begun.requests
            self.jobs[party], self.interpreters[party] = job, interpreter
            self.private[party] = [memoryview(bytes(b)) for b in job.request.private]
            return real_compute(begun, interpreter, *rest)

        def open_session(link: Any, batch: Any, sides: Any, identities: Any, label: str, draw: Any) -> Any:
            parts = self.parts[link.party] = [draw(), draw()]
            coming = iter(parts)
            return real_open(link, batch, sides, identities, label, lambda: next(coming))

        monkeypatch.setattr(runs, "compute", compute)
        monkeypatch.setattr(run, "open_session", open_session)

    def recorded(self, config: Any) -> Recorded:
        jobs = [self.jobs[party] for party in range(3)]
        requests = [replace(job.request, private=self.private[i]) for i, job in enumerate(jobs)]
        asking = Asking(
            jobs[0].plan,
            (requests[0], requests[1], requests[2]),
            jobs[0].asked,
            jobs[0].coins,
            jobs[0].client_key,
        )
        return Recorded(
            session=jobs[0].session,
            askings=(asking,),
            parts=tuple((self.parts[i][0], self.parts[i][1]) for i in range(3)),
            identities=tuple(place.public_key for place in config.parties),
            label="opening with receipts",
        )


@pytest.fixture
def signing(hall: Any) -> list[SigningKey]:
    """The servers of `hall` sign."""
    keys = [SigningKey.generate() for _ in range(3)]
    rows = [replace(row, signing_key=k.public) for row, k in zip(hall.config.parties, keys, strict=True)]
    hall.config = replace(hall.config, parties=tuple(rows))
    return keys


def test_a_real_run_is_replayed_to_its_receipt(
    hall: Any,
    signing: list[SigningKey],
    model_dir: Path,
    feed: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What three servers signed after a run over encrypted connections follows from its inputs and coins."""
    watched = Watched(monkeypatch)
    for party in range(3):
        hall.start(party, model_dir, signing=signing[party])
    assert all(thread.ready.wait(30) for thread in hall.started)
    with Client(hall.config, hall.client_keys) as client:
        receipt = client.run(feed).receipt
    assert receipt is not None
    interpreters = [watched.interpreters[party] for party in range(3)]
    replayed = replay(watched.recorded(hall.config), interpreters)
    for signed in receipt.servers:
        me = signed.statement["party"]
        for peer in {0, 1, 2} - {me}:
            assert signed.statement["sent"][str(peer)] == replayed.chain(me, peer).hex()
            assert signed.statement["received"][str(peer)] == replayed.chain(peer, me).hex()


def test_a_server_without_its_signing_key_does_not_start(
    hall: Any, signing: list[SigningKey], model_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=r"party 0 must sign receipts with .*, and it has none"):
        Server(0, hall.config, hall.keys[0], model_dir)
    with pytest.raises(ConfigError, match="and it has ed25519:"):
        Server(0, hall.config, hall.keys[0], model_dir, signing=signing[1])


def test_without_signing_keys_the_log_says_that_receipts_are_off(
    hall: Any,
    signing: list[SigningKey],
    model_dir: Path,
    until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    off = replace(hall.config, receipts=ReceiptConfig(False))
    for party in range(3):
        hall.start(party, model_dir, config=off, signing=signing[party])
    until(lambda: all(f"party {party} signs no receipts" in caplog.text for party in range(3)), 30.0)


def test_a_server_that_differs_in_the_setting_is_found_before_a_word_moves(
    hall: Any, signing: list[SigningKey], model_dir: Path, feed: dict[str, np.ndarray]
) -> None:
    off = replace(hall.config, receipts=ReceiptConfig(False))
    for party in range(3):
        config = off if party == 2 else hall.config
        hall.start(party, model_dir, signing=signing[party], config=config)
    assert all(thread.ready.wait(30) for thread in hall.started)
    with (
        Client(hall.config, hall.client_keys) as client,
        pytest.raises(ReceiptError, match="server 2 signs no receipts"),
    ):
        client.run(feed)
    with Client(off, hall.client_keys) as client, pytest.raises(OnnxpumaError) as caught:
        client.run(feed)
    assert "with receipts" in str(caught.value)
    assert "(opening)" in str(caught.value)


def test_receipts_can_be_switched_off(
    model_dir: Path, feed: dict[str, np.ndarray], cluster: LocalCluster
) -> None:
    with cluster.client() as client:
        outcome = client.run(feed)
    assert outcome.receipt is not None
    assert "Receipt" not in repr(outcome)
    off = replace(cluster.config, receipts=ReceiptConfig(False))
    with Client(off, cluster.client_keys) as client:
        assert client.run(feed).receipt is None
    with LocalCluster(model_dir, receipts=False) as servers:
        with servers.client() as client:
            assert client.run(feed).receipt is None
        on = replace(servers.config, receipts=ReceiptConfig(True))
        with (
            Client(on, servers.client_keys) as client,
            pytest.raises(ReceiptError, match="server 0 signs no receipts"),
        ):
            client.run(feed)
