"""Three servers of two models as their operators run them: in processes, with logs, metrics and pid files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import tomlkit

from onnxpuma.cluster_template import write_cluster_template
from onnxpuma.config import PartyConfig
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.transport.curve import keygen

NAMES = ("alice", "bob", "carol")
CLIENTS = ("clinic", "ward")
SECONDS = 200.0  # on a busy machine


def free_ports(count: int) -> list[int]:
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def until(holds: Callable[[], Any], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


class Site:
    """The servers; `cluster` is the file that they share, in which only the first client stands at first."""

    def __init__(self, folder: Path, models: dict[str, Path]) -> None:
        self.folder, self.cluster = folder, folder / "cluster.toml"
        self.keys = {name: keygen(folder / name).public for name in (*NAMES, *CLIENTS)}
        for name, path in models.items():
            share_model(path, folder / name)
        self.models = [f"--model={name}={folder / name}" for name in models]
        ports = free_ports(9)
        self.metrics = ports[6:]
        parties = [
            PartyConfig(name, "127.0.0.1", ports[2 * i], ports[2 * i + 1], self.keys[name], "127.0.0.1")
            for i, name in enumerate(NAMES)
        ]
        write_cluster_template(self.cluster, parties, {"clinic": self.keys["clinic"]})
        self.processes = [self.start(party) for party in range(3)]

    def start(self, party: int) -> subprocess.Popen[str]:
        name = NAMES[party]
        options = [
            f"--cluster={self.cluster}", f"--key={self.folder / name}.secret", *self.models,
            f"--metrics=127.0.0.1:{self.metrics[party]}", f"--audit={self.folder / name}.audit",
            f"--pid-file={self.folder / name}.pid", "--log-format=json",
        ]  # fmt: skip
        with self.log(party).open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "onnxpuma", "serve", *options],
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )

    def log(self, party: int) -> Path:
        return self.folder / f"{NAMES[party]}.log"

    def said(self, party: int) -> list[dict[str, Any]]:
        """The log of a server: every line is JSON, but for the last words of the command itself."""
        return [json.loads(line) for line in self.log(party).read_text().splitlines() if line[:1] == "{"]

    def messages(self, party: int) -> str:
        return "\n".join(entry["message"] for entry in self.said(party))

    def page(self, party: int, page: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self.metrics[party]}{page}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except OSError as error:
            return getattr(error, "code", 0), ""

    def ready(self) -> bool:
        return all(self.page(party, "/readyz")[0] == 200 for party in range(3))

    def let_in(self, *clients: str, **limits: int) -> None:
        """Rewrite cluster.toml so that these clients may ask, within these limits."""
        tables = tomlkit.parse(self.cluster.read_text())
        tables["clients"] = {name: self.keys[name] for name in clients}
        for name, value in limits.items():
            tables["limits"][name] = value
        self.cluster.write_text(tomlkit.dumps(tables))

    def restart(self, party: int) -> int:
        """Stop a server as `systemctl restart` does; its exit status."""
        self.processes[party].send_signal(signal.SIGTERM)
        status = self.processes[party].wait(SECONDS)
        self.processes[party] = self.start(party)
        return status

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
