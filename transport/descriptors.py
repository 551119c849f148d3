"""How many files and sockets this process may have open: where it gets no more, libzmq aborts the process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from onnxpuma.errors import ConfigError

if sys.platform != "win32":
    import resource


def require_descriptors(least: int, *, raised: bool = False) -> None:
    """See that `least` more can be opened.

    The soft limit rises to the hard one where that is needed, or where `raised` asks for it.
    Raises ConfigError when the hard limit does not allow that.
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
            f"this process may have {soft} files and sockets open and has {used}; {least} more are needed",
            "raise the limit: `ulimit -n 4096` in the shell that starts it, LimitNOFILE=4096 for systemd",
        )


def _used() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 3
