"""Three servers of one model and its client on the machines of benchmarks/links.py: each has its own view of
where the others are."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import links
import tomlkit

from onnxpuma.cluster_template import write_cluster_template
from onnxpuma.config import PartyConfig, read_cluster
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local import isolated
from onnxpuma.roles.owner.disclosure import here_alone
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.signing import keygen_with_signing

NAMES = ("alice", "bob", "carol", "client")
CLIENT = PARTIES  # the fourth machine
PEER_PORT, CLIENT_PORT = 7000, 7100  # of party 0; the namespace is ours alone
STOP_SECONDS = 10.0

ClientT = TypeVar("ClientT", bound=Client)


class Servers:
    """The shares of `model` in three folders, and the processes that `serve` starts, until `close`."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="onnxpuma-")
        self._folder = Path(self._temporary.name)
        self._threads = threads
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._model = self._folder / "model"
            share_model(model, self._model, review=here_alone)
            (self._folder / "keys").mkdir(mode=0o700)
            made = [keygen_with_signing(self._folder / "keys" / name) for name in NAMES]
            self._keys = [pair for pair, _ in made]
            self._signing = [signing.public for _, signing in made]
        except BaseException:
            self.close()
            raise

    def serve(self, network: links.Network, **limits: int) -> None:
        """Start the three processes afresh; they plan requests for this network. limits: settings of
        [limits]."""
        self._stop()
        self._views(network, limits)
        self._processes = [self._start(party) for party in range(PARTIES)]
        for party in range(PARTIES):
            self._wait(party)

    def client(self, kind: type[ClientT]) -> ClientT:
        """A new client of this kind. Close it before the servers."""
        model = SharedModel.read(self._model)
        return kind(read_cluster(self._folder / NAMES[CLIENT] / "cluster.toml"), self._keys[CLIENT], model)

    def close(self) -> None:
        """Stop the servers and remove their files."""
        self._stop()
        self._temporary.cleanup()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- within ---------------------------------------------------------------------------------------

    def _stop(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []

    def _views(self, network: links.Network, limits: Mapping[str, int]) -> None:
        """Write every machine's folder: its secret key, and cluster.toml with the addresses that it uses.

        A server removes its folder when it stops.
        """
        for machine, name in enumerate(NAMES):
            parties = [
                PartyConfig(
                    NAMES[party],
                    links.HOME if party == machine else links.address(machine, party),
                    PEER_PORT + party,
                    CLIENT_PORT + party,
                    self._keys[party].public,
                    links.HOME,
                    self._signing[party],
                )
                for party in range(PARTIES)
            ]
            folder = self._folder / name
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "empty").mkdir(mode=0o700, parents=True)
            for suffix in (".secret", ".signing"):
                shutil.copy2(self._folder / "keys" / f"{name}{suffix}", folder)
            path = folder / "cluster.toml"
            write_cluster_template(path, parties, {"client": self._keys[CLIENT].public})
            tables = tomlkit.parse(path.read_text())
            tables["threads"]["compute"] = self._threads
            tables["network"]["latency_ms"] = network.latency * 1e3
            tables["network"]["bandwidth_mbps"] = network.bandwidth / 1e6
            for key, value in limits.items():
                tables["limits"][key] = value
            path.write_text(tomlkit.dumps(tables))

    def _start(self, party: int) -> subprocess.Popen[bytes]:
        folder = self._folder / NAMES[party]
        arguments = [str(folder), str(party), NAMES[party], str(self._model)]
        with (self._folder / f"{NAMES[party]}.log").open("ab") as log:
            return isolated.start("onnxpuma.roles.local.party", arguments, folder / "empty", log)

    def _wait(self, party: int) -> None:
        """Wait until a server is ready."""
        output = self._processes[party].stdout
        assert output is not None
        said = output.readline().decode()
        if not said.startswith("ready"):
            message = json.loads(said)["message"] if said.startswith("{") else "it ended"
            log = (self._folder / f"{NAMES[party]}.log").read_text()
            raise RuntimeError(f"party {party} does not start: {message}\n{log}")
