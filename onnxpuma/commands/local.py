"""Three servers on this machine, for a command that needs some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.roles.local import LocalCluster


def start_servers(shared: str | Path, threads: int) -> LocalCluster:
    """Start them on a shared model, with a bar."""
    from onnxpuma.roles.local import LocalCluster

    with screen.progress("starting three servers"):
        return LocalCluster(shared, threads=threads)
