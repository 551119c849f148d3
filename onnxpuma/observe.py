"""What a run reports, during and after it: progress, time and traffic by operator. Never a value."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

Progress = Callable[[int, int, str], None]  # waves done, waves in all, label of the wave that starts


@dataclass
class OperatorUse:
    """Totals of one operator type at one party. Steps that run side by side divide their wave's figures."""

    steps: int = 0
    seconds: float = 0.0
    bytes_sent: int = 0
    rounds: int = 0


@dataclass
class RunReport:
    """One run at one party: seconds online, bytes sent, rounds, peak memory, and a row per operator."""

    party: int = 0
    seconds: float = 0.0
    bytes_sent: int = 0
    rounds: int = 0
    peak_rss_bytes: int = 0
    operators: dict[str, OperatorUse] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> RunReport:
        uses = {name: OperatorUse(**use) for name, use in entries.get("operators", {}).items()}
        return cls(**{**entries, "operators": uses})


def peak_rss_bytes() -> int:
    """The largest resident size of this process so far."""
    try:  # getrusage would include the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Stopwatch:
    """Attributes a wave's time, bytes and rounds to its operators, in proportion to their declared bits."""

    def __init__(self, report: RunReport, bytes_sent: Callable[[], int], rounds: Callable[[], int]) -> None:
        self._report, self._bytes, self._rounds = report, bytes_sent, rounds
        self._start = (perf_counter(), bytes_sent(), rounds())
        self._begin = self._start

    def lap(self, shares: dict[str, tuple[int, float]]) -> None:
        """End a wave. `shares`: operator -> (steps, its part of the wave); the parts add up to one."""
        now = (perf_counter(), self._bytes(), self._rounds())
        seconds, sent, rounds = (b - a for a, b in zip(self._start, now, strict=True))
        largest = max(shares, key=lambda name: shares[name][1], default=None)
        for name, (steps, part) in shares.items():
            use = self._report.operators.setdefault(name, OperatorUse())
            use.steps += steps
            use.seconds += seconds * part
            use.bytes_sent += round(sent * part)
            # The operators of a wave share its rounds, so they are counted once.
            use.rounds += int(rounds) if name == largest else 0
        self._start = now

    def stop(self) -> None:
        now = (perf_counter(), self._bytes(), self._rounds())
        self._report.seconds, sent, rounds = (b - a for a, b in zip(self._begin, now, strict=True))
        self._report.bytes_sent, self._report.rounds = int(sent), int(rounds)
        self._report.peak_rss_bytes = peak_rss_bytes()
