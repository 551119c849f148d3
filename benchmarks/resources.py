"""Memory and processor time of processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

MARKS = (0.1, 0.5, 1.0)  # shares of a measurement at which memory is read
_TICK = os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def processor(pids: Sequence[int]) -> float:
    """Seconds of processor time that these processes have taken so far, all threads together."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field) for each in fields for field in each[11:13]) / _TICK


class Memory:
    """The memory of some processes when a tenth, half and all of `total` is done."""

    def __init__(self, pids: Sequence[int], total: float) -> None:
        self._pids, self._total = pids, total
        self.found: list[list[int]] = []  # bytes of each process, one list for each of MARKS

    def look(self, done: float) -> None:
        """Note the memory if the next mark is reached."""
        while len(self.found) < len(MARKS) and done >= MARKS[len(self.found)] * self._total:
            self.found.append([resident(pid) for pid in self._pids])

    @property
    def growth(self) -> float:
        """The largest change of a process between the first mark and the last, as a share of the first."""
        return max((abs(last / first - 1) for first, last in zip(self.found[0], self.found[-1], strict=True)))
