"""serve: the README's three hosts, as three processes started by hand; and servers that cannot start."""

from __future__ import annotations

import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.cluster_template import write_cluster_template
from onnxpuma.config import PartyConfig
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.transport.curve import read_public_key

NAMES = ("alice", "bob", "carol")


def free_ports(count: int) -> list[int]:
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@pytest.fixture
def hosts(cli, model: Path, tmp_path: Path) -> Path:
    """Keys, a shared model and a cluster.toml, made with the README's commands."""
    for name in (*NAMES, "clinic"):
        cli("keygen", tmp_path / name)
    cli("share", model, "--out", tmp_path / "shared")
    ports = free_ports(6)
    keys = {name: read_public_key(tmp_path / f"{name}.public") for name in (*NAMES, "clinic")}
    parties = [
        PartyConfig(name, "127.0.0.1", ports[2 * i], ports[2 * i + 1], keys[name], "127.0.0.1")
        for i, name in enumerate(NAMES)
    ]
    write_cluster_template(tmp_path / "cluster.toml", parties, {"clinic": keys["clinic"]})
    return tmp_path


def serve(hosts: Path, party: int, *more: str, **places: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "onnxpuma", "serve", "--party", str(party), "--cluster", "cluster.toml"]
    own = ["--model", "shared", "--key", f"{NAMES[party]}.secret"]
    places = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **places}
    return subprocess.Popen([*command, *own, *more], cwd=hosts, text=True, **places)


@pytest.fixture
def running(hosts: Path) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [serve(hosts, party) for party in range(3)]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_three_hosts_as_in_the_readme(cli, hosts: Path, running, patient: np.ndarray):
    for party, process in enumerate(running):
        assert process.stdout is not None
        assert f"party {party} ({NAMES[party]}) is ready" in process.stdout.readline()
    np.savez(hosts / "x.npz", measurements=patient)
    own = ("--cluster", hosts / "cluster.toml", "--key", hosts / "clinic.secret")
    ended = cli("infer", *own, "--inputs", hosts / "x.npz", "--out", hosts / "y.npz")
    assert ended.status == 0
    with np.load(hosts / "y.npz") as arrays:
        assert arrays["logits"].shape == (1, 2)
    for process, number in zip(running, (signal.SIGINT, signal.SIGTERM, signal.SIGTERM), strict=True):
        process.send_signal(number)
    for party, process in enumerate(running):
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "of clinic is done" in log
        assert f"party {party} has stopped" in log
        assert "Traceback" not in log


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--party", "1", "--key", "alice.secret"), 6, "belongs to party 0"),
        (("--key", "clinic.secret"), 6, "belongs to no party"),
        (("--key", "none.secret"), 6, "there is no key file"),
        (("--key", "alice.secret", "--model", "nowhere"), 5, "is not a shared model"),
        (("--key", "alice.secret", "--cluster", "none.toml"), 6, "there is no file"),
    ],
)
def test_what_cannot_be_served_is_refused(cli, hosts: Path, monkeypatch, options, status: int, said: str):
    monkeypatch.chdir(hosts)
    model = () if "--model" in options else ("--model", "shared")
    ended = cli("serve", *model, *options)
    assert ended.status == status
    assert said in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_a_folder_without_the_partys_file_is_refused(cli, hosts: Path, monkeypatch):
    monkeypatch.chdir(hosts)
    (hosts / "shared" / "party2.keys").unlink()
    ended = cli("serve", "--model", "shared", "--key", "carol.secret")
    assert ended.status == 5
    assert "error: there is no file shared/party2.keys" in " ".join(ended.err.split())


def test_a_damaged_share_is_refused(cli, hosts: Path, monkeypatch):
    monkeypatch.chdir(hosts)
    path = hosts / "shared" / "words.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    ended = cli("serve", "--model", "shared", "--key", "bob.secret")
    assert ended.status == 5
    assert "error: shared/words.safetensors is damaged: the words of" in " ".join(ended.err.split())


def test_a_port_in_use_is_refused(cli, servers: LocalCluster):
    own = ("--cluster", servers.config_path, "--key", servers.folder / "alice.secret")
    ended = cli("serve", "--model", servers.model_dir, *own)
    assert ended.status == 6
    assert re.search("error: .* in use", " ".join(ended.err.split()))


def test_servers_that_cannot_write_what_they_say_serve_all_the_same(cli, hosts: Path, patient: np.ndarray):
    """No line can be written: the disk behind stdout and stderr is full."""
    with Path("/dev/full").open("w") as full:
        processes = [serve(hosts, party, stdout=full, stderr=full) for party in range(3)]
    try:
        np.savez(hosts / "x.npz", measurements=patient)
        own = ("--cluster", hosts / "cluster.toml", "--key", hosts / "clinic.secret")
        for _ in range(2):
            ended = cli("infer", *own, "--inputs", hosts / "x.npz", "--out", hosts / "y.npz")
            assert ended.status == 0, ended.err
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()


def test_too_few_open_files_are_said_to_be_too_few(hosts: Path):
    """Where libzmq gets no descriptor, it ends the whole process by SIGABRT."""
    few = (30, 30)
    process = serve(hosts, 0, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "may have 30 files and sockets open" in said
    assert "ulimit -n" in said
