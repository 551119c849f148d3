"""How many files and sockets this process may have open: libzmq aborts a process that can open no more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from onnxpuma.errors import ConfigError

if sys.platform != "win32":
    import resource


def require_descriptors(least: int, *, raised: bool = False) -> None:
    """Check that `least` more can be opened, and raise the soft limit to the hard one if that takes it.

    raised: raise the soft limit in any case. Raises ConfigError when the hard limit is too low.
    """
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = _used()
    if (raised or soft - used < least) and soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft != resource.RLIM_INFINITY and soft - used < least:
        raise ConfigError(
            f"this process may have {soft} files and sockets open and has {used}; it needs {least} more",
            "raise the limit: `ulimit -n 4096` in the shell that starts it, LimitNOFILE=4096 for systemd",
        )


def _used() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 3
