"""Runs that last as long as a test wants: its servers pause after each round.

So a test can disturb a run, however fast the servers are: none outlasts ROUNDS x SECONDS, far beyond the time
that a test needs, and each goes on at full speed once the test has done what it wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 0.3  # servers look about between two pauses, so it bounds how late they notice anything
FLAG = "unhurried"  # a file in the folder of a server's process: it pauses while the file is there

Compute = Callable[..., Any]


def unhurried(compute: Compute, wanted: Callable[[], bool]) -> Compute:
    """onnxpuma.roles.server.run.compute, with a pause after each round while `wanted` says so."""

    def slowly(begun: Any, interpreter: Any, joints: Any, on_round: Callable[[], None], progress: Any) -> Any:
        def paused() -> None:
            if wanted():
                time.sleep(SECONDS)
            on_round()

        return compute(begun, interpreter, joints, paused, progress)

    return slowly
