"""All three servers on this machine, each in a process of its own: for trials, demonstrations and tests.

Nothing is protected from the owner of this machine. Otherwise everything runs as on three machines: the same
servers and the same encrypted connections, over the loopback interface.
"""

from __future__ import annotations

import json
import logging
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

import tomlkit

from onnxpuma import errors
from onnxpuma.cluster_template import write_cluster_template
from onnxpuma.config import (
    ClusterConfig,
    LimitConfig,
    MemoryConfig,
    NetworkConfig,
    ReceiptConfig,
    TimeoutConfig,
    read_cluster,
)
from onnxpuma.errors import (
    ConfigError,
    OnnxpumaError,
    PeerLostError,
    RequestTimeoutError,
    TransportError,
    plain_text,
)
from onnxpuma.mpc.ring.native import warn_once
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local import isolated
from onnxpuma.roles.local.client import LocalClient
from onnxpuma.roles.local.places import NAMES, local_parties
from onnxpuma.roles.owner.disclosure import here_alone
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.shared.keys_file import PARTIES_WITH_WORDS
from onnxpuma.roles.shared.model import SharedModel, is_shared
from onnxpuma.roles.shared.words_file import WORDS
from onnxpuma.transport.curve import KeyPair, keygen
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.signing import keygen_with_signing

PORT_TRIALS = 3
STOP_SECONDS = 5.0
DEATH_SECONDS = 0.3  # from a broken connection to the end of the process behind it
START_SECONDS = 120.0
SLOWEST_READING = 20e6  # bytes a second, all three together, on a busy machine
LAST_LINES = 8  # of the log of a server that ended, for a person to read
READY = b"ready "  # followed by the kernel on which the server computes

_log = logging.getLogger("onnxpuma.roles")


class LocalCluster:
    """Three servers of one model, started by the constructor and stopped by `close`.

    The servers run this package in a temporary folder, isolated from the user's (local/isolated.py).

    Raises ModelError and ConfigError for a model that cannot be shared, the error of a server that ends while
    starting, and RequestTimeoutError when the servers take too long. Warns when they lack the compiled
    kernel.
    """

    def __init__(
        self,
        # An ONNX file, or a folder of ONNX files that make one model, which is first shared into a temporary
        # folder; or the folder of a shared model.
        model: str | Path,
        threads: int = 1,  # for ring arithmetic, at each server
        *,
        start_timeout: float | None = None,  # seconds; None: two minutes, and more for large models
        timeouts: TimeoutConfig | None = None,
        public_inputs: Sequence[str] = (),  # patterns, for sharing the model here and for `client`
        limits: LimitConfig | None = None,
        samples: Mapping[str, Samples] | None = None,  # to calibrate a model that is shared here
        network: NetworkConfig | None = None,  # for which they plan; None: the usual one
        memory: int | None = None,  # bytes for the weights of each server; None: what the machine can spare
        receipts: bool | ReceiptConfig = True,  # whether the servers sign what they do
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="onnxpuma-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said: dict[int, int] = {}  # length of each party's log when its process started
        self._threads = threads
        self._public_inputs = tuple(public_inputs)
        self._timeouts = timeouts or TimeoutConfig()
        self._limits = limits or LimitConfig()
        self._network = network or NetworkConfig()
        self._receipts = receipts if isinstance(receipts, ReceiptConfig) else ReceiptConfig(receipts)
        self._memory = MemoryConfig((memory or 0) / 1e9)
        try:
            self.model_dir = self._model_dir(Path(model), samples)
            self.folder = Path(self._temporary.name)
            self.config_path = self.folder / "cluster.toml"  # with `client.secret` and the logs beside it
            self._empty = self.folder / "empty"
            self._empty.mkdir(mode=0o700)
            self._servers = [keygen_with_signing(self.folder / name) for name in NAMES]
            self._client_keys = keygen(self.folder / "client")
            self._start_all(self._patience() if start_timeout is None else start_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    @property
    def client_keys(self) -> KeyPair:
        """The key pair of the one client that these servers know."""
        return self._client_keys

    def client(self) -> Client:
        """A new client of these servers. Close it before the servers."""
        model = SharedModel.read(self.model_dir)
        return LocalClient(self.config, self.client_keys, model, self._public_inputs, self.explained)

    def explained(self, error: TransportError) -> TransportError:
        """`error`; or, if a server has ended meanwhile, an error that says how, and quotes its last words."""
        deadline = time.monotonic() + DEATH_SECONDS
        while all(process.poll() is None for process in self._processes):
            if time.monotonic() > deadline:
                return error
            time.sleep(DEATH_SECONDS / 10)
        ended = [party for party, process in enumerate(self._processes) if process.poll() is not None]
        how = "; ".join(f"party {party} has ended, {self._ending(party)}" for party in ended)
        listing = _listed(self._last_words(ended[0]))
        return type(error)(f"{error.message}: {how}", f"start new servers; the log of that one {listing}")

    def restart(self, party: int, start_timeout: float | None = None) -> None:
        """Kill the process of `party` in whatever state it is, and start it again."""
        self._processes[party].kill()
        self._end([self._processes[party]], STOP_SECONDS)
        self._processes[party] = self._start(party)
        patience = self._patience() if start_timeout is None else start_timeout
        self._wait([party], time.monotonic() + patience)

    def close(self) -> None:
        """Stop the servers and remove the temporary folder."""
        self._end(self._processes, STOP_SECONDS)
        self._temporary.cleanup()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- within ---------------------------------------------------------------------------------------

    def _model_dir(self, model: Path, samples: Mapping[str, Samples] | None) -> Path:
        if is_shared(model):
            if samples:
                raise ConfigError(f"{model} is shared already", "calibrate where its owner shares it")
            return model.absolute()
        folder = Path(self._temporary.name) / "model"
        policy = Policy(public_inputs=self._public_inputs)
        share_model(model, folder, policy, samples=samples, review=here_alone)
        return folder

    def _patience(self) -> float:
        """Seconds that the servers may take to start, since they read and check their shares."""
        words = self.model_dir / WORDS
        size = words.stat().st_size if words.is_file() else 0  # else a server says what is missing
        return START_SECONDS + len(PARTIES_WITH_WORDS) * size / SLOWEST_READING

    def _start_all(self, start_timeout: float) -> None:
        for trial in range(1, PORT_TRIALS + 1):
            self._write_config()
            self._processes = [self._start(party) for party in range(PARTIES)]
            try:
                self._wait(list(range(PARTIES)), time.monotonic() + start_timeout)
                return
            except ConfigError:  # another program took a port after we found it free
                if trial == PORT_TRIALS:
                    raise
                for process in self._processes:
                    process.kill()
                self._end(self._processes, STOP_SECONDS)

    def _write_config(self) -> None:
        parties = local_parties(self._servers)
        self.config_path.unlink(missing_ok=True)
        write_cluster_template(self.config_path, parties, {"client": self.client_keys.public})
        tables = tomlkit.parse(self.config_path.read_text())
        settings = ("timeouts", self._timeouts), ("limits", self._limits), ("network", self._network)
        for name, values in (*settings, ("memory", self._memory), ("receipts", self._receipts)):
            for key, value in asdict(values).items():
                tables[name][key] = value
        tables["threads"]["compute"] = self._threads
        self.config_path.write_text(tomlkit.dumps(tables))
        self.config: ClusterConfig = read_cluster(self.config_path)

    def _start(self, party: int) -> subprocess.Popen[bytes]:
        arguments = [str(self.folder), str(party), NAMES[party], str(self.model_dir)]
        with self._log(party).open("ab") as log:
            self._said[party] = log.tell()
            return isolated.start("onnxpuma.roles.local.party", arguments, self._empty, log)

    def _log(self, party: int) -> Path:
        return self.folder / f"{NAMES[party]}.log"

    def _wait(self, parties: list[int], deadline: float) -> None:
        """Wait until each of these processes reports that it is ready."""
        waiting = set(parties)
        while waiting:
            outputs = {_output(self._processes[party]): party for party in waiting}
            ready, _, _ = select.select(list(outputs), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                names = ", ".join(f"party {party}" for party in sorted(waiting))
                raise RequestTimeoutError(
                    f"{names} not ready in time", "the model is large or the machine is busy: allow more time"
                )
            for output in ready:
                party = outputs[output]
                line = output.readline()
                if not line.startswith(READY):
                    raise self._failure(party, line)
                if line.removeprefix(READY).strip() == b"numpy":
                    warn_once()  # the server's own warning stands in its log
                waiting.discard(party)

    def _failure(self, party: int, line: bytes) -> OnnxpumaError:
        """The error that this server reported before it ended, or an error that says how it ended."""
        try:
            report = json.loads(line)
            kind = getattr(errors, report["error"])
            return kind(f"party {party}: {report['message']}", report["hint"])
        except (ValueError, KeyError, AttributeError, TypeError):
            lines = self._last_words(party)
            end = f"{self._ending(party)}: {lines[-1].strip()}" if lines else self._ending(party)
            return PeerLostError(f"party {party} ended while starting, {end}", f"its log {_listed(lines)}")

    def _last_words(self, party: int) -> list[str]:
        """The last lines that the process of a party wrote."""
        said = self._log(party).read_bytes()[self._said[party] :].decode(errors="replace")
        return [text for each in said.splitlines() if (text := plain_text(each).rstrip())][-LAST_LINES:]

    def _ending(self, party: int) -> str:
        """How the process of a party ended."""
        try:
            status = self._processes[party].wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "its output closed"
        if status >= 0:
            return f"exit status {status}"
        return f"killed by {signal.Signals(-status).name}"

    def _end(self, processes: list[subprocess.Popen[bytes]], patience: float) -> None:
        """Ask these processes to end, and kill those still running after `patience` seconds."""
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
        deadline = time.monotonic() + patience
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _listed(lines: list[str]) -> str:
    if not lines:
        return "is empty: was it stopped from outside, or out of memory?"
    return "ends with" + "".join(f"\n  {line}" for line in lines)


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout
