"""Three servers on this machine, for the commands that need them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.roles.local.cluster import LocalCluster


def start_servers(shared: str | Path, threads: int, **options: Any) -> LocalCluster:
    """Start them on a shared model, with a progress bar. Warn here if they lack the compiled kernel: their
    own warning would go to a log that nobody reads. options: further ones of `LocalCluster`."""
    from onnxpuma.mpc.ring.native import native, warn_once
    from onnxpuma.roles.local.cluster import LocalCluster

    if native() is None:
        warn_once()
    with screen.progress("starting three servers"):
        return LocalCluster(shared, threads=threads, **options)
