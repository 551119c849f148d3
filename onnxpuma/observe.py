"""What a run reports, during and after it: progress, time and traffic by operator. Never a value."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from onnxpuma.mpc.forms.reading import StreamUse
from onnxpuma.standard.units import duration, size

Progress = Callable[[int, int, str], None]  # steps done, steps in all, label of the oldest that runs


@dataclass(frozen=True)
class Standing:
    """How far a run is, as one server tells its client while it computes."""

    done: int  # steps
    steps: int  # in all; 1 while the request waits for others
    label: str  # of the oldest step that runs
    bytes_sent: int = 0  # by this server to the two others
    seconds: float = 0.0  # since the run began


@dataclass
class OperatorUse:
    """Totals of one operator type at one party."""

    steps: int = 0
    # Spent in its protocol, or there in wait for words.
    seconds: float = 0.0
    # Words alone, without headers.
    bytes_sent: int = 0
    # A round counts for one of the steps that run side by side: the one that started first.
    rounds: int = 0


@dataclass(repr=False)
class RunReport:
    """One run at one party: seconds online and in wait, bytes, rounds, peak memory, a row per operator."""

    party: int = 0
    # That were computed together. Of several, the bytes are this one's part, as the plans predict it, there
    # are no rows by operator, and all other numbers are those of the whole run.
    requests: int = 1
    seconds: float = 0.0
    # Those of them in which it waited for words of the other parties, other runs' computing included.
    waited: float = 0.0
    bytes_sent: int = 0
    rounds: int = 0
    peak_rss_bytes: int = 0
    operators: dict[str, OperatorUse] = field(default_factory=dict)
    # Of the client's budget, where the model's owner set one (roles/server/budgets.py).
    answers_left: int | None = None
    # What its streamed weights took.
    streamed: StreamUse = field(default_factory=StreamUse)

    def __repr__(self) -> str:
        told = f"{duration(self.seconds)}, {size(self.bytes_sent)} sent, {self.rounds:,} rounds"
        return f"<RunReport of party {self.party}: {told}, {size(self.peak_rss_bytes)} at most in memory>"

    def of(self, operator: str) -> OperatorUse:
        """The row of an operator, made if missing."""
        return self.operators.setdefault(operator, OperatorUse())

    @property
    def phases(self) -> dict[str, float]:
        """Seconds: of reading, on threads of its own beside the run; of products with streamed weights, and
        of key streams within these, by all threads; of waiting for blocks, and for words of the others."""
        use = self.streamed
        return {
            "reading": use.reading_seconds,
            "key_stream": use.key_seconds,
            "products": use.product_seconds,
            "stalled": use.stalled_seconds,
            "rounds": self.waited,
        }

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> RunReport:
        uses = {name: OperatorUse(**use) for name, use in entries.get("operators", {}).items()}
        streamed = StreamUse(**entries.get("streamed", {}))
        return cls(**{**entries, "operators": uses, "streamed": streamed})


def answers_left(reports: Iterable[RunReport]) -> int | None:
    """The answers that the client may still get of a model with noise: the least that a server counts; None
    where all answers are exact."""
    return min((r.answers_left for r in reports if r.answers_left is not None), default=None)


def peak_rss_bytes() -> int:
    """The largest resident size of this process so far."""
    try:  # getrusage would include the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Stopwatch:
    """Fills in a run's totals; the interpreter adds the rounds, and what each step takes to its operator's
    row."""

    def __init__(self, party: int, bytes_sent: Callable[[], int], waited: Callable[[], float]) -> None:
        self.report = RunReport(party)
        self._counts = (perf_counter, bytes_sent, waited)
        self._begin = [count() for count in self._counts]

    def stop(self) -> None:
        spent = [count() - begin for count, begin in zip(self._counts, self._begin, strict=True)]
        self.report.seconds, sent, self.report.waited = spent
        self.report.bytes_sent = int(sent)
        self.report.peak_rss_bytes = peak_rss_bytes()
