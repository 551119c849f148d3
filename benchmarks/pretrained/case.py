"""What is measured of a model, and how: the same calls on shares and in the clear, and what they took."""

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
HEARTBEAT = 120.0  # seconds of silence after which a server is given up


@dataclass(frozen=True)
class Cost:
    """Of one run, or the mean of several. bytes_sent: by all three servers."""

    what: str
    seconds: float
    bytes_sent: float
    rounds: float


@dataclass(frozen=True)
class Target:
    """What was aimed at, and what came out."""

    what: str
    wanted: str
    reached: str
    met: bool


@dataclass
class Measured:
    """All figures of a model. metric: what it is good at, with its value in the clear and on shares."""

    samples: str
    metric: str
    plain: str
    secure: str
    agreement: str
    error_of: str
    errors: Errors
    costs: list[Cost]
    targets: list[Target]
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folders:
    """The model as the servers get it, and as onnxruntime does; the same where nothing is said."""

    secure: Path
    plain: Path


@dataclass(frozen=True)
class Case:
    """A model. data: the folder of samples it needs, below the data folder.

    prepare(files of each package, folder to write) makes its ONNX files; measure(...) takes its figures.
    """

    key: str
    title: str
    about: str
    packages: tuple[Package, ...]
    data: str
    prepare: Callable[[Sequence[Path], Path], Folders]
    measure: Callable[[Bench], Measured]


class Metered(SecureRunner):
    """Three servers of this machine, and what each run took."""

    def __init__(self, model: Path, threads: int) -> None:
        self.servers = LocalCluster(
            model, threads, start_timeout=PATIENCE, timeouts=TimeoutConfig(PATIENCE, PATIENCE, HEARTBEAT)
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
        """The largest resident size of each server so far, in bytes; nothing where nobody says it."""
        return [size for pid in self.servers.pids if (size := _peak(pid))]


@dataclass
class Bench:
    """What a case measures with."""

    plain: PlainRunner
    secure: Metered
    folder: Path
    data: Path
    quick: bool
    say: Callable[[str], None]

    def some(self, items: Sequence[Any], few: int) -> list[Any]:
        """The items, or with --quick the first few."""
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
