"""The memory of this machine, or of its container: all of it, and what nobody uses now."""

from __future__ import annotations

import os
from pathlib import Path

from onnxpuma.config import ClusterConfig

FOR_WEIGHTS = 0.8  # of the memory that is left; requests and the system take the rest
FOR_PAGES = 0.8  # of the memory that is free once the weights are loaded: for pages of the file of words
_GROUP = Path("/sys/fs/cgroup")


def machine_bytes() -> int:
    """All memory."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = _number(_GROUP / "memory.max")
    return whole if most is None else min(whole, most)


def free_bytes() -> int:
    """Memory that a new process can have without displacing others; files that are cached count as free."""
    most, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    free = _available()
    return free if most is None or used is None else max(0, min(free, most - used))


def spare_bytes(servers: int = 1) -> int:
    """Memory for the weights of one server if so many are about to start on this machine."""
    return int(FOR_WEIGHTS * free_bytes()) // servers


def neighbours(config: ClusterConfig, party: int) -> int:
    """The servers of this cluster that run on the machine of `party`, itself included."""
    return sum(place.host == config.parties[party].host for place in config.parties)


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    except (OSError, StopIteration, ValueError):
        return machine_bytes()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
