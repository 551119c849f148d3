"""Three servers on this machine, for commands that run a model here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.roles.local.cluster import LocalCluster


def start_servers(shared: str | Path, threads: int, **options: Any) -> LocalCluster:
    """Start three servers on a model, with a progress bar; `options` go to `LocalCluster`.

    Warns if the compiled kernel is missing: the servers' own warning would go to a log that nobody reads.
    """
    from onnxpuma.mpc.ring.native import native, warn_once
    from onnxpuma.roles.local.cluster import LocalCluster

    if native() is None:
        warn_once()
    with screen.progress("starting three servers"):
        return LocalCluster(shared, threads=threads, **options)
