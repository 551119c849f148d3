"""Servers that cannot start: each says what is wrong, and with whom."""

from __future__ import annotations

import re
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from onnxpuma.config import LimitConfig
from onnxpuma.errors import (
    AuthenticationError,
    BusyError,
    ConfigError,
    OnnxpumaError,
    PeerLostError,
    PlanError,
)
from onnxpuma.mpc.ring import native
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.server import request_loop, runs
from onnxpuma.roles.server.server import Server
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.curve import generate


def test_three_servers_meet_serve_and_stop(hall: Any, model_dir: Path, feed: Any) -> None:
    threads = [hall.start(party, model_dir) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)
    for thread in threads:
        thread.stopping.set()
    assert [thread.ended(5) for thread in threads] == [None] * 3


def test_a_key_of_another_party(hall: Any, model_dir: Path) -> None:
    with pytest.raises(ConfigError, match="not to party 1"):
        hall.start(1, model_dir, keys=hall.keys[0])


@pytest.mark.parametrize("port", ["peer_port", "client_port"])
def test_a_port_in_use(port: str, hall: Any, model_dir: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", getattr(hall.config.parties[0], port)))
        holder.listen()
        error = hall.start(0, model_dir).ended()
    assert isinstance(error, ConfigError)
    assert f"{getattr(hall.config.parties[0], port)} is in use" in error.message
    assert error.hint


def test_no_model(hall: Any, tmp_path: Path) -> None:
    error = hall.start(2, tmp_path).ended()
    assert isinstance(error, PlanError)
    assert "is not a shared model" in error.message


@pytest.mark.parametrize("difference", ["model", "dealing", "version"])
def test_one_server_differs_from_the_two_others(
    difference: str,
    hall: Any,
    model_path: Path,
    model_dir: Path,
    long_model_dir: Path,
    tmp_path: Path,
    feed: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends with an error; the two others wait, tell clients why, and serve once it is corrected."""
    good = [hall.start(party, model_dir) for party in range(2)]
    odd_dir = {"model": long_model_dir, "dealing": tmp_path, "version": model_dir}[difference]
    if difference == "dealing":
        share_model(model_path, tmp_path)
    if difference == "version":
        with Client(hall.config, hall.client_keys) as client:
            until(lambda: [isinstance(s, wire_pb2.Status) for s in client.status(0.5)] == [True, True, False])
        monkeypatch.setattr("onnxpuma.roles.server.server.lockstep_code", lambda: "other")
    odd = hall.start(2, odd_dir)
    error = odd.ended()
    assert isinstance(error, PlanError)
    expected = {"model": "serves another model", "dealing": "from another call of", "version": "+other"}
    assert expected[difference] in error.message
    assert not any(thread.ready.is_set() for thread in good)
    assert all(thread.is_alive() for thread in good)
    monkeypatch.undo()
    last = hall.start(2, model_dir)
    assert all(thread.ready.wait(60) for thread in (*good, last))
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_a_server_whose_key_its_peers_do_not_know(hall: Any, model_dir: Path) -> None:
    stranger = generate()
    rows = list(hall.config.parties)
    rows[2] = replace(rows[2], public_key=stranger.public)
    for party in range(2):
        hall.start(party, model_dir)
    error = hall.start(2, model_dir, keys=stranger, config=replace(hall.config, parties=tuple(rows))).ended()
    assert isinstance(error, AuthenticationError)
    assert "refuses the public key of party 2" in error.message
    assert stranger.public in error.hint


def test_a_client_is_told_which_server_is_missing(hall: Any, model_dir: Path, feed: Any) -> None:
    for party in (0, 2):
        hall.start(party, model_dir)
    client = Client(hall.config, hall.client_keys, Blueprint.read(model_dir))
    with client, pytest.raises(OnnxpumaError, match="no answer from server 1"):
        client.run(feed)


def test_servers_that_lost_each_other_tell_the_client(hall: Any, model_dir: Path, feed: Any) -> None:
    """Party 2 listens to clients, but its link to party 1 leads nowhere."""
    rows = list(hall.config.parties)
    rows[1] = replace(rows[1], peer_port=1)
    threads = [hall.start(0, model_dir), hall.start(1, model_dir)]
    threads.append(hall.start(2, model_dir, config=replace(hall.config, parties=tuple(rows))))
    client = Client(hall.config, hall.client_keys, Blueprint.read(model_dir))
    with client, pytest.raises(OnnxpumaError, match=r"party [12] is not connected to party [12]"):
        client.run(feed)
    assert all(thread.is_alive() for thread in threads)


def test_a_folder_moved_between_parties(hall: Any, model_dir: Path, tmp_path: Path) -> None:
    for name in ("skeleton.onnx", "policy.json", "party1.keys", "words.safetensors"):
        shutil.copy(model_dir / name, tmp_path)
    error = hall.start(2, tmp_path).ended()
    assert isinstance(error, PlanError)
    assert "party2.keys" in error.message


def test_a_client_has_its_share_of_the_queue_and_others_have_theirs(
    hall: Any, long_model_dir: Path, feed: Any, until: Any
) -> None:
    other = generate()
    config = replace(
        hall.config,
        clients={**hall.config.clients, "other": other.public},
        limits=LimitConfig(waiting=1),
    )
    threads = [hall.start(party, long_model_dir, config=config) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    steps: list[int] = []
    queued: list[str] = []
    admitted: list[str] = []
    outcomes: list[Any] = []

    def ask(client: Client, progress: Any) -> Thread:
        asking = Thread(target=lambda: outcomes.append(client.run(feed, progress=progress)), daemon=True)
        asking.start()
        return asking

    first, second, third = (Client(config, hall.client_keys) for _ in range(3))
    stranger = Client(config, other)
    with first, second, third, stranger:
        third.blueprint, stranger.blueprint  # noqa: B018  (fetched before the servers are busy)
        with hall.unhurried():
            running = ask(first, lambda done, *_: steps.append(done))
            until(lambda: steps)
            waiting = ask(second, lambda *news: queued.append(news[2]))
            until(lambda: queued)
            with pytest.raises(BusyError, match="1 requests of client client wait already"):
                third.run(feed)
            also = ask(stranger, lambda *news: admitted.append(news[2]))
            until(lambda: admitted)
        for thread in (running, waiting, also):
            thread.join(40)
        assert len(outcomes) == 3, "the others are not disturbed"
        assert third.run(feed).outputs["y"].shape == (2, 8)


def details(client: Client) -> list[str]:
    """What each server tells a person about the others."""
    return [said.detail if isinstance(said, wire_pb2.Status) else "" for said in client.status(1.0)]


def moved(model_dir: Path, folder: Path) -> Path:
    """A copy of party 1's folder for party 2."""
    for name in ("skeleton.onnx", "policy.json", "party1.keys", "words.safetensors"):
        shutil.copy(model_dir / name, folder)
    return folder


def test_the_others_name_the_reason_why_a_server_does_not_start(
    hall: Any, model_dir: Path, tmp_path: Path, feed: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good = [hall.start(party, model_dir) for party in range(2)]
    reason = r"party 2 refused to start: .*party2\.keys"
    with Client(hall.config, hall.client_keys, Blueprint.read(model_dir)) as client:
        until(lambda: all("not connected to party 2" in said for said in details(client)[:2]))
        assert isinstance(hall.start(2, moved(model_dir, tmp_path)).ended(), PlanError)
        until(lambda: all(re.search(reason, said) for said in details(client)[:2]))
        assert str(tmp_path) not in "".join(details(client)), "the paths of its files are not disclosed"
        told = [r for r in caplog.records if "refused to start" in r.getMessage() and r.levelname == "ERROR"]
        assert len(told) == 2, "each of the others logs it once"
        with pytest.raises(PeerLostError, match=f"no answer from server 2 .* server 0 says: {reason}"):
            client.run(feed)
        last = hall.start(2, model_dir)
        assert all(thread.ready.wait(60) for thread in (*good, last))
        until(lambda: not any(details(client)))
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_a_server_that_cannot_start_waits_a_moment_for_those_that_start_with_it(
    hall: Any, model_dir: Path, tmp_path: Path, until: Any
) -> None:
    hall.config = replace(hall.config, timeouts=replace(hall.config.timeouts, connect=30.0))
    begun = time.monotonic()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", hall.config.parties[2].peer_port))
        holder.listen()
        odd = hall.start(2, model_dir)
        for party in range(2):
            hall.start(party, model_dir)
        assert isinstance(odd.ended(), ConfigError)
        with Client(hall.config, hall.client_keys, Blueprint.read(model_dir)) as client:
            until(lambda: all("party 2 refused to start" in said for said in details(client)[:2]))
            assert "is in use" in details(client)[0]
    assert time.monotonic() - begun < 20


def test_a_server_that_waits_for_others_to_tell_can_be_stopped(hall: Any, tmp_path: Path) -> None:
    thread = hall.start(0, tmp_path)
    thread.stopping.set()
    assert isinstance(thread.ended(2.0), PlanError)


def test_a_fault_of_the_program_is_told_without_its_text(
    hall: Any, model_dir: Path, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for party in range(2):
        hall.start(party, model_dir)
    with Client(hall.config, hall.client_keys, Blueprint.read(model_dir)) as client:
        until(lambda: all(details(client)[:2]))

        def fail(*_: object) -> None:
            raise KeyError("a word of a share")

        monkeypatch.setattr("onnxpuma.roles.server.holdings.open_shares", fail)
        assert isinstance(hall.start(2, model_dir).ended(), KeyError)
        until(lambda: all("refused to start: internal error (KeyError)" in d for d in details(client)[:2]))


def test_a_server_without_the_kernel_says_so_when_it_starts(
    hall: Any, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setattr(native, "_warned", False)
    monkeypatch.setattr(request_loop.RequestLoop, "serve", lambda _, ready: ready())
    with pytest.warns(RuntimeWarning, match="many times slower"):
        Server(0, hall.config, hall.keys[0], model_dir).serve()


def test_a_request_that_needs_too_much_memory_is_told_so_and_the_servers_go_on(
    hall: Any, model_dir: Path, feed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [hall.start(party, model_dir) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)

    def fail(*_: object) -> None:
        raise MemoryError

    with Client(hall.config, hall.client_keys) as client:
        with monkeypatch.context() as short:
            short.setattr(runs, "compute", fail)
            with pytest.raises(PlanError, match="not enough memory") as raised:
                client.run(feed)
        assert "smaller batch" in raised.value.hint
        assert client.run(feed).outputs["y"].shape == (2, 8)
