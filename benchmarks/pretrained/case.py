"""The measurement of a model: the same calls on shares and in the clear, and their cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from onnxpuma.config import TimeoutConfig
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.tasks import PlainRunner, SecureRunner
from onnxpuma.tasks.port import Result, Run
from pretrained.compare import Errors
from pretrained.packages import Package

PATIENCE = 1800.0  # seconds for one request, or for three servers to start, however busy the machine
HEARTBEAT = 120.0  # seconds of silence after which a server counts as dead


@dataclass(frozen=True)
class Cost:
    """The cost of one run, or the mean of several."""

    what: str
    seconds: float
    bytes_sent: float  # by all three servers
    rounds: float


@dataclass(frozen=True)
class Target:
    """A target, and the figure that was reached."""

    what: str
    wanted: str
    reached: str
    met: bool


@dataclass
class Measured:
    """All figures of a model."""

    samples: str
    metric: str  # the quality that counts
    plain: str  # its value in the clear
    secure: str  # and on shares
    agreement: str
    error_of: str  # the quantity whose error is given
    errors: Errors
    costs: list[Cost]
    targets: list[Target]
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folders:
    """The folders of the model for the servers and for onnxruntime; the same unless given."""

    secure: Path
    plain: Path


@dataclass(frozen=True)
class Case:
    """A model: its packages, its data, and how it is measured."""

    key: str
    title: str
    about: str
    packages: tuple[Package, ...]
    data: str  # the folder of its samples, below the data folder
    prepare: Callable[[Sequence[Path], Path], Folders]  # (files of each package, folder to write)
    measure: Callable[[Bench], Measured]


class Metered(SecureRunner):
    """Three servers on this machine, and the cost of each run."""

    def __init__(self, model: Path, threads: int, memory: int | None = None) -> None:
        """memory: bytes for the weights of each server; by default what this machine spares."""
        self.servers = LocalCluster(
            model,
            threads,
            memory=memory,
            start_timeout=PATIENCE,
            timeouts=TimeoutConfig(PATIENCE, PATIENCE, HEARTBEAT),
        )
        super().__init__(self.servers.client(), self.servers)
        self.runs: list[Cost] = []

    def run(self, run: Run) -> Result:
        before = self.usage.copy()
        result = super().run(run)
        used = self.usage.since(before)
        self.runs.append(Cost(run.graph, used.seconds, used.bytes_sent, used.rounds))
        return result

    def peak_memory(self) -> list[int]:
        """The largest resident size of each server so far, in bytes; empty where the system does not report
        it."""
        return [size for pid in self.servers.pids if (size := _peak(pid))]


@dataclass
class Bench:
    """The means of measurement for a case."""

    plain: PlainRunner
    secure: Metered
    folder: Path
    data: Path
    quick: bool
    say: Callable[[str], None]

    def some(self, items: Sequence[Any], few: int) -> list[Any]:
        """The items; with --quick only the first few."""
        return list(items[:few] if self.quick else items)


def average(what: str, runs: Sequence[Cost]) -> Cost:
    """The mean of several runs."""
    return Cost(
        what,
        mean(run.seconds for run in runs),
        mean(run.bytes_sent for run in runs),
        mean(run.rounds for run in runs),
    )


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else 0
