"""Keep the memory of a process private: out of core dumps, out of debuggers and, if possible, out of swap.

Shares, session keys and secret keys lie in the memory of a running process. The system would write them to a
disk when the process crashes or memory is short. Python cannot tell in which pages a key lies (it copies
strings, and other libraries hold the keys of masks), so either all pages are locked or none.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import resource

_SET_DUMPABLE = 4  # PR_SET_DUMPABLE of <linux/prctl.h>
_LOCK = 1 | 2 | 4  # MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT of <sys/mman.h>: pages as they are touched


def seclude() -> None:
    """From now on this process leaves no core dump, and no other process of its user can read its memory
    (no ptrace, no /proc/PID/mem). Programs that it starts are not protected.
    """
    if sys.platform == "win32":
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def stay_in_memory() -> bool:
    """Keep all memory of this process out of swap, now and later; False if its limit does not allow that.

    This takes an unlimited RLIMIT_MEMLOCK: a later allocation that reached a limit would fail.
    """
    if sys.platform != "linux":
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard != resource.RLIM_INFINITY:
        return False
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    return bool(ctypes.CDLL(None).mlockall(_LOCK) == 0)


def swaps() -> bool:
    """Whether this machine has swap, as far as the system tells."""
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return False
